"""What the server serves, told in both forms of discovery."""
