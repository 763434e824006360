"""Objects on photographs, from image labels alone: their boxes, and what tells them from their surroundings."""
