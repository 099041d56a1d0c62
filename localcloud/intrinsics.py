"""CloudFormation's conditions and Fn::If, as far as the template uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NO_VALUE = object()
"""What `Ref: AWS::NoValue` gives: whatever holds it is as if it were not there."""
Resolve = Callable[[Any], Any]


class Conditions:
    """A template's conditions. `resolve` gives a value with its other intrinsic functions replaced."""

    def __init__(self, conditions: Mapping[str, Any], resolve: Resolve) -> None:
        self._conditions, self._resolve = conditions, resolve

    def hold(self, name: str) -> bool:
        """Whether a condition holds. Raises KeyError for one that the template has not."""
        return self._evaluate(self._conditions[name])

    def choose(self, argument: list[Any]) -> Any:
        """The value of Fn::If: [condition, where it holds, where not]."""
        name, held, otherwise = argument
        return self._resolve(held if self.hold(name) else otherwise)

    def _evaluate(self, expression: Mapping[str, Any]) -> bool:
        (word, argument), *_ = expression.items()
        if word == "Condition":
            return self.hold(argument)
        if word == "Fn::Equals":
            first, second = (str(self._resolve(side)) for side in argument)
            return first == second
        if word == "Fn::Not":
            return not self._evaluate(argument[0])
        if word == "Fn::And":
            return all(self._evaluate(each) for each in argument)
        if word == "Fn::Or":
            return any(self._evaluate(each) for each in argument)
        raise ValueError(f"{word} is no condition")


def drop_absent(value: Any) -> Any:
    """A list or an object without the members that have no value."""
    if isinstance(value, list):
        return [item for item in value if item is not NO_VALUE]
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not NO_VALUE}
    return value
