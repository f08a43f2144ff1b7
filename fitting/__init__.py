"""Geometry: head models, camera, landmark embedding, the solver, metric placement, gaze, layout."""
