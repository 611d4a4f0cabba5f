"""What the camera sees beside the face: things on it, light, infrared, the sensor."""
