"""The judge: checks an answer with NumPy alone and shares no code with the engine."""
