"""The control plane: what moves a dataset's run from upload to a model that answers."""
