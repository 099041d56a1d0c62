"""What SageMaker gives to a training job and takes from it: settings, metrics and the artifact."""
