"""What SageMaker gives a training job and takes from it: settings, metrics and the artifact."""
