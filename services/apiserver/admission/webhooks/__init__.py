"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: admission that users run outside of this server."""
