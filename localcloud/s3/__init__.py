"""Keep moto's S3 on disk."""
