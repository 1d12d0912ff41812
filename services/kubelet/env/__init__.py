"""Environment variables of containers: fields, resources, ConfigMaps, Secrets and Services."""
