"""Refuse container images of another region, in the words of the operation that names them.

Only images in ECR have a region. Any other is left to the pull, which fails on AWS where it cannot be reached.
"""

from __future__ import annotations

import re

from localcloud.protocol.errors import ValidationException

ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?P<suffix>amazonaws\.com(?:\.cn)?)/")


def check_training_image(region: str, image: str) -> None:
    """Raise ValidationException if a training image lies in another region's registry."""
    found = ECR.match(image)
    if found and found["region"] != region:
        raise ValidationException(
            f"Invalid DNS suffix '{found['suffix']}' for region '{found['region']}' in training image. Please provide "
            f"the valid <region>.<dns-suffix>: '{region}.amazonaws.com'"
        )


def check_model_image(region: str, image: str) -> None:
    """Raise ValidationException if a model's image lies in another region's registry."""
    found = ECR.match(image)
    if found and found["region"] != region:
        raise ValidationException(
            f'Region of "{image}" does not match expected region of {region}. Cross region ECR image pulls are not '
            "allowed."
        )
