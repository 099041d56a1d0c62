"""AWS on one machine, for this application: SageMaker with real jobs, and moto for the rest."""
