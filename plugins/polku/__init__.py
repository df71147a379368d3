"""Polku: deliver JSON events from Kinesis and S3 to Redshift, each exactly once."""
