/* The interface that qsplat/kernels/__init__.py declares, through ctypes, and qsplat/render/cpu.py,
 * qsplat/qnn/warp.py and qsplat/training/losses.py call; its structures mirror these. */
#ifndef QSPLAT_KERNELS_H
#define QSPLAT_KERNELS_H

#include <stdint.h>

#define API __attribute__((visibility("default")))
#define RECORD 5 /* floats of a record before the channels: conic a, b, c, opacity, depth */

/* One image. A record is (conic a, b, c, opacity, depth, channels...), row-major; radius 0 marks a culled splat.
 * The backward pass takes the images of the forward pass and the gradients of a loss with respect to them (NULL: zero).
 */
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

/* Splats seen by a camera: `pose` is cam_from_world (row-major 4x4), intrinsics and size those of the whole image.
 * `harmonics` is 0, 1, 4, 9 or 16; a width or number of 0 means that the array is not there. The backward pass reads
 * the records and radii of the forward pass; a gradient that is NULL is not wanted. */
typedef struct {
    int64_t count;
    int32_t harmonics, features_width, width, height, antialiased, threads;
    float fx, fy, cx, cy, blur, near, far;
    const float *pose, *means, *quats, *scales, *opacities, *sh, *features;
    float *means2d, *records;
    int32_t *radii;
    const float *grad_means2d, *grad_records;
    float *grad_pose, *grad_means, *grad_quats, *grad_scales, *grad_opacities, *grad_sh, *grad_features;
} Projection;

/* Two images of row-major interleaved pixels: absolute_weight * sum |prediction - target| and similarity_weight * sum
 * SSIM, over the pixels whose byte in the mask is not 0 (all, if it is NULL). `sums` gets both without their weights,
 * `gradient` (NULL: not wanted) that of the first minus the second with respect to the prediction. Where the images are
 * smaller than the window of SSIM there is no second. */
typedef struct {
    int32_t channels, width, height, threads;
    float absolute_weight, similarity_weight;
    const float *prediction, *target;
    const uint8_t *mask;
    float *gradient;
    double *sums;
} PhotometricLoss;

/* A photo that is warped into a view: cam_from_world (row-major, its first three rows), intrinsics, its share from 0 to
 * 1, and per pixel residual (3) and depth in half precision. */
typedef struct {
    float pose[12], fx, fy, cx, cy, share;
    int32_t width, height;
    const uint16_t *image;
} WarpedPhoto;

/* Photos warped into a view with `pose` and intrinsics as above, whose window of `width` x `height` pixels begins at
 * (x, y) and has the depths `depth`. A depth may differ from the photo's by the share `tolerance` of it, a line of
 * sight by `angle_scale` radians, at which a weight is 1/e. `sums` gets six planes: weights, and weighted residuals
 * (3), squares of residuals (mean of the three), and angles. */
typedef struct {
    float pose[12], fx, fy, cx, cy, tolerance, angle_scale;
    int32_t x, y, width, height, count, threads;
    const float *depth;
    const WarpedPhoto *photos;
    float *sums;
} Warp;

API void qsplat_warp(const Warp *warp);

/* 0, or 1 when memory ran out. */
API int qsplat_project_forward(const Projection *projection);
API int qsplat_project_backward(const Projection *projection);

/* Memory of one image, for a rasterizer from its forward to its backward pass, reused by later images. NULL: out of
 * memory. */
API void *qsplat_workspace_create(void);
API void qsplat_workspace_destroy(void *workspace);

/* 0, or 1 when memory ran out. */
API int qsplat_raster_forward(void *workspace, const RasterImage *image);
API int qsplat_raster_backward(void *workspace, const RasterImage *image);
API int qsplat_photometric_loss(void *workspace, const PhotometricLoss *loss);

#endif
