/* The interface that qsplat/render/cpu.py calls through ctypes; its structures mirror these. */
#ifndef QSPLAT_RASTER_H
#define QSPLAT_RASTER_H

#include <stdint.h>

/* One image. A record is (conic a, b, c, opacity, depth, channels...), row-major; radius 0 marks a culled splat.
 * The backward pass takes the images of the forward pass and the gradients of a loss with respect to them (NULL: zero). */
typedef struct {
    int64_t count;
    int32_t channels, x, y, width, height; /* the window, in pixels of the whole image */
    float alpha_cut, alpha_max, transmittance_stop;
    int32_t threads;
    const float *means2d, *records;
    const int32_t *radii;
    float *color, *alpha, *depth; /* depth NULL: not wanted */
    const float *grad_color, *grad_alpha, *grad_depth;
    float *grad_means2d, *grad_records, *absgrad; /* absgrad NULL: not wanted */
} RasterImage;

/* Memory of one image that lasts from its forward to its backward pass, reused by later images. NULL: out of memory. */
void *qsplat_workspace_create(void);
void qsplat_workspace_destroy(void *workspace);

/* 0, or 1 when memory ran out. */
int qsplat_raster_forward(void *workspace, const RasterImage *image);
int qsplat_raster_backward(void *workspace, const RasterImage *image);

#endif
