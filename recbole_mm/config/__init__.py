"""Configuration: layers of yaml files, checked, as RecBole's Config."""
