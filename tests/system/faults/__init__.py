"""The fault matrix: each part of a running installation, each way to fail, during each activity."""
