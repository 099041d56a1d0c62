"""Read a dataset's names: splits, classes and labels. The same text serves pre-flight and the training program."""
