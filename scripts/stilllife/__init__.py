"""The bundled still life: textures, shapes, composition, cameras and sparse points, all made from a seed."""
