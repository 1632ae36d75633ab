/* Planes of a tile (one vector per block of pixels) from and to interleaved images. */
#include "raster.h"

size_t planes_per_thread(const Job *job) {
    return 5 + 2 * (size_t)job->image->channels; /* what the backward pass needs */
}

vfloat *planes_of(const Job *job, int rank) {
    return (vfloat *)DATA(PLANES) + (size_t)rank * PLANE * planes_per_thread(job);
}

/* Vectors of four blocks side by side to four rows of sixteen pixels, and back. */
INLINE void swap_blocks_and_rows(vfloat v[4]) {
    vfloat a = shuffle(v[0], v[1], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    vfloat b = shuffle(v[0], v[1], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    vfloat c = shuffle(v[2], v[3], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    vfloat d = shuffle(v[2], v[3], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    v[0] = shuffle(a, c, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    v[1] = shuffle(b, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    v[2] = shuffle(a, c, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    v[3] = shuffle(b, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

/* Four blocks side by side: 16 x 4 pixels. */
typedef struct {
    int block, left, right, top, bottom; /* columns left <= x < right and rows top <= y < bottom are in the window */
    int64_t pixel;                       /* index in the window of the (possibly outer) first pixel */
} Strip;

static Strip strip_of(const Tile *tile, int block) {
    const RasterImage *image = tile->job->image;
    int x = tile->x + block % ACROSS * BLOCK - image->x, y = tile->y + block / ACROSS * BLOCK - image->y;
    Strip strip = {block, 0, LANES, 0, BLOCK, (int64_t)y * image->width + x};
    if (x < 0) strip.left = -x;
    if (y < 0) strip.top = -y;
    if (x + LANES > image->width) strip.right = image->width - x;
    if (y + BLOCK > image->height) strip.bottom = image->height - y;
    return strip;
}

INLINE int whole(const Strip *strip) {
    return strip->left == 0 && strip->right == LANES && strip->top == 0 && strip->bottom == BLOCK;
}

void store_planes(const Tile *tile, const vfloat *planes, float *image, int channels) {
    const int64_t width = tile->job->image->width;
    for (int block = 0; block < BLOCKS; block += 4) {
        const Strip strip = strip_of(tile, block);
        vfloat rows[3][4];
        float *to = image + strip.pixel * channels;
        if (channels == 3 && whole(&strip)) {
            for (int k = 0; k < 3; k++) {
                memcpy(rows[k], planes + k * PLANE + block, sizeof rows[k]);
                swap_blocks_and_rows(rows[k]);
            }
            for (int y = 0; y < BLOCK; y++) {
                vfloat r = rows[0][y], g = rows[1][y], b = rows[2][y];
                vfloat rg = shuffle(r, g, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
                vfloat gb = shuffle(g, b, 5, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10);
                vfloat br = shuffle(b, r, 10, 27, 0, 11, 28, 0, 12, 29, 0, 13, 30, 0, 14, 31, 0, 15);
                vfloat_unaligned *row = (vfloat_unaligned *)(to + y * width * 3);
                row[0] = shuffle(rg, b, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
                row[1] = shuffle(gb, r, 0, 1, 22, 3, 4, 23, 6, 7, 24, 9, 10, 25, 12, 13, 26, 15);
                row[2] = shuffle(br, g, 0, 1, 27, 3, 4, 28, 6, 7, 29, 9, 10, 30, 12, 13, 31, 15);
            }
            continue;
        }
        for (int k = 0; k < channels; k++) {
            memcpy(rows[0], planes + k * PLANE + block, sizeof rows[0]);
            swap_blocks_and_rows(rows[0]);
            for (int y = strip.top; y < strip.bottom; y++) {
                const float *row = (const float *)&rows[0][y];
                if (channels == 1 && whole(&strip))
                    *(vfloat_unaligned *)(to + y * width) = rows[0][y];
                else
                    for (int x = strip.left; x < strip.right; x++) to[(y * width + x) * channels + k] = row[x];
            }
        }
    }
}

void load_planes(const Tile *tile, vfloat *planes, const float *image, int channels) {
    const int64_t width = tile->job->image->width;
    if (!image) {
        memset(planes, 0, (size_t)channels * PLANE * sizeof *planes);
        return;
    }
    for (int block = 0; block < BLOCKS; block += 4) {
        const Strip strip = strip_of(tile, block);
        const float *from = image + strip.pixel * channels;
        vfloat rows[3][4];
        if (block + 2 * ACROSS < BLOCKS) /* the image is far away, in pieces too short for the hardware to foresee */
            for (int y = 2 * BLOCK; y < 3 * BLOCK; y++)
                for (int k = 0; k < channels; k++) __builtin_prefetch(from + y * width * channels + k * LANES);
        if (channels == 3 && whole(&strip)) {
            for (int y = 0; y < BLOCK; y++) {
                const vfloat_unaligned *row = (const vfloat_unaligned *)(from + y * width * 3);
                vfloat a = row[0], b = row[1], c = row[2];
                vfloat r = shuffle(a, b, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
                vfloat g = shuffle(a, b, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
                vfloat h = shuffle(a, b, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
                rows[0][y] = shuffle(r, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29);
                rows[1][y] = shuffle(g, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30);
                rows[2][y] = shuffle(h, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31);
            }
            for (int k = 0; k < 3; k++) {
                swap_blocks_and_rows(rows[k]);
                memcpy(planes + k * PLANE + block, rows[k], sizeof rows[k]);
            }
            continue;
        }
        for (int k = 0; k < channels; k++) {
            memset(rows[0], 0, sizeof rows[0]);
            for (int y = strip.top; y < strip.bottom; y++) {
                float *row = (float *)&rows[0][y];
                if (channels == 1 && whole(&strip))
                    rows[0][y] = *(const vfloat_unaligned *)(from + y * width);
                else
                    for (int x = strip.left; x < strip.right; x++) row[x] = from[(y * width + x) * channels + k];
            }
            swap_blocks_and_rows(rows[0]);
            memcpy(planes + k * PLANE + block, rows[0], sizeof rows[0]);
        }
    }
}
