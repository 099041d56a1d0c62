"""Judge a model by its answers: metrics, calibration and the predictions that a report shows."""
