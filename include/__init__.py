"""SQL of the product, read as package resources so that it is found on a laptop and on MWAA alike."""
