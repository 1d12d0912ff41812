"""Who is asking: client certificates, static tokens, ServiceAccount tokens, anonymous."""
