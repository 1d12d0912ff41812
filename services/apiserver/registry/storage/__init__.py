"""Kinds of the storage group: classes, CSI drivers and nodes, VolumeAttachments."""
