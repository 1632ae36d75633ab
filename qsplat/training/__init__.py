"""Learning Gaussians and the head from photos: one implementation of every rule, for ``fit`` and for front ends."""
