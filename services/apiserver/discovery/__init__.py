"""What the server serves, told in both forms of discovery: a document for each group and version, or all in one."""
