"""What may still change or refuse a write after authorization."""
