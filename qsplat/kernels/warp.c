/* Photos warped into a view by its depth. The equations and the slow twin are in ../qnn/warp.py.
 *
 * A thread takes its rows piece by piece: what does not depend on a photo is found once for a piece, which stays in the
 * first cache while one photo after the other is added. */
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

#define PIECE 16 /* vectors */
#define CHANNELS 4

typedef float quad __attribute__((vector_size(16)));
typedef _Float16 half_quad __attribute__((vector_size(8)));

/* Where a pixel lies in a photo: what is read there begins at index `at`; the next column and the next row are `right`
 * and `below` further, or 0 at the border, and count as much as `x` and `y` say. */
typedef struct {
    vint at[PIECE], right[PIECE], below[PIECE], inside[PIECE];
    vfloat x[PIECE], y[PIECE], depth[PIECE];
} Places;

typedef struct {
    vfloat point[3][PIECE], line[3][PIECE]; /* in the world; the line of sight is a unit vector to the camera */
    vint surface[PIECE];
    Places places;
    vfloat read[CHANNELS * PIECE]; /* pixel by pixel */
    vfloat weight[PIECE], residual[3][PIECE], square[PIECE], angle[PIECE];
} Piece;

typedef struct {
    float rotation[9], translation[3], center[3];
} Pose;

static Pose pose_of(const float *matrix) {
    Pose pose;
    for (int i = 0; i < 3; i++) {
        memcpy(pose.rotation + 3 * i, matrix + 4 * i, 3 * sizeof(float));
        pose.translation[i] = matrix[4 * i + 3];
    }
    for (int i = 0; i < 3; i++) {
        double sum = 0;
        for (int k = 0; k < 3; k++) sum -= (double)pose.rotation[3 * k + i] * pose.translation[k];
        pose.center[i] = (float)sum;
    }
    return pose;
}

/* The unit vectors from `point` to `center`. */
INLINE void line_to(const float *center, const vfloat point[3], vfloat line[3]) {
    vfloat square = all_lanes(0);
    for (int i = 0; i < 3; i++) {
        line[i] = center[i] - point[i];
        square += line[i] * line[i];
    }
    vfloat scale = 1 / vmax(vsqrt(square), all_lanes(1e-12f));
    for (int i = 0; i < 3; i++) line[i] *= scale;
}

/* The angle in radians between unit vectors whose ends are 2 `half_chord` apart. The series of the arc sine is a least
 * maximum fit on [0, 1/2], relative error 9e-8; beyond that, the half angle is taken. */
INLINE vfloat angle_of(vfloat half_chord) {
    vfloat far = vmax((1 - half_chord) * 0.5f, all_lanes(0));
    vint wide = half_chord > 0.5f;
    vfloat z = choose(wide, far, half_chord * half_chord), x = choose(wide, vsqrt(far), half_chord);
    vfloat p = z * 4.99531479e-2f + 4.00349709e-2f;
    p = p * z + 7.54053136e-2f;
    p = p * z + 0.1666558f;
    vfloat arc = x + x * z * p;
    return choose(wide, 3.14159265f - 4 * arc, 2 * arc);
}

/* Points of the world at the depth of the pixels `from` .. `from` + `count` of a row, and their lines of sight. */
static void open_piece(const Warp *warp, const Pose *pose, Piece *piece, int row, int from, int count) {
    const float *depth = warp->depth + (size_t)row * warp->width + from;
    const float y = ((float)(warp->y + row) + 0.5f - warp->cy) / warp->fy;
    for (int i = 0; i * LANES < count; i++) {
        vfloat z = load_first(depth + i * LANES, count - i * LANES), point[3], line[3];
        vfloat x = __builtin_convertvector(IOTA_INT + (warp->x + from + i * LANES), vfloat) + 0.5f;
        vfloat seen[3] = {(x - warp->cx) / warp->fx * z, y * z, z};
        for (int k = 0; k < 3; k++) seen[k] -= pose->translation[k];
        for (int k = 0; k < 3; k++)
            point[k] = pose->rotation[k] * seen[0] + pose->rotation[3 + k] * seen[1] + pose->rotation[6 + k] * seen[2];
        line_to(pose->center, point, line);
        for (int k = 0; k < 3; k++) piece->point[k][i] = point[k], piece->line[k][i] = line[k];
        piece->surface[i] = z > 0;
        piece->weight[i] = piece->square[i] = piece->angle[i] = all_lanes(0);
        for (int k = 0; k < 3; k++) piece->residual[k][i] = all_lanes(0);
    }
}

/* Where the pixels of a piece lie in a photo; 0 when it shows none of them. */
static int find_places(const WarpedPhoto *photo, const Pose *pose, Piece *piece, int vectors) {
    Places *places = &piece->places;
    const float *r = pose->rotation, *t = pose->translation;
    const float width = (float)photo->width, height = (float)photo->height;
    vint one = {0};
    for (int i = 0; i < vectors; i++) {
        vfloat p[3] = {piece->point[0][i], piece->point[1][i], piece->point[2][i]};
        vfloat z = r[6] * p[0] + r[7] * p[1] + r[8] * p[2] + t[2];
        vint before = z > 0;
        vfloat scale = 1 / choose(before, z, all_lanes(1));
        vfloat u = photo->fx * (r[0] * p[0] + r[1] * p[1] + r[2] * p[2] + t[0]) * scale + photo->cx;
        vfloat v = photo->fy * (r[3] * p[0] + r[4] * p[1] + r[5] * p[2] + t[1]) * scale + photo->cy;
        vint inside = piece->surface[i] & before & (u >= 0) & (u <= width) & (v >= 0) & (v <= height);
        vfloat x = vmin(vmax(u - 0.5f, all_lanes(0)), all_lanes(width - 1));
        vfloat y = vmin(vmax(v - 0.5f, all_lanes(0)), all_lanes(height - 1));
        vint column = __builtin_convertvector(x, vint), row = __builtin_convertvector(y, vint);
        places->inside[i] = inside;
        places->depth[i] = z;
        places->x[i] = x - __builtin_convertvector(column, vfloat);
        places->y[i] = y - __builtin_convertvector(row, vfloat);
        places->at[i] = (row * photo->width + column) * CHANNELS;
        places->right[i] = (column < photo->width - 1) & CHANNELS;
        places->below[i] = (row < photo->height - 1) & (photo->width * CHANNELS);
        one |= inside;
    }
    return any(one);
}

INLINE quad read_pixel(const uint16_t *from) {
    half_quad value;
    memcpy(&value, from, sizeof value);
    return __builtin_convertvector(value, quad);
}

/* What a photo shows at the pixels that lie in it, bilinearly. */
static void read_photo(const WarpedPhoto *photo, Piece *piece, int vectors) {
    const Places *places = &piece->places;
    const int *at = (const int *)places->at, *right = (const int *)places->right, *below = (const int *)places->below;
    const int *inside = (const int *)places->inside;
    const float *x = (const float *)places->x, *y = (const float *)places->y;
    for (int i = 0; i < vectors * LANES; i++) {
        if (!inside[i]) continue;
        const uint16_t *above = photo->image + at[i], *under = above + below[i];
        quad a = read_pixel(above), b = read_pixel(above + right[i]);
        quad c = read_pixel(under), d = read_pixel(under + right[i]);
        quad upper = a + (b - a) * x[i], lower = c + (d - c) * x[i], value = upper + (lower - upper) * y[i];
        memcpy((float *)piece->read + CHANNELS * i, &value, sizeof value);
    }
}

/* Channel by channel what `read` holds of sixteen pixels. */
INLINE void part_channels(const vfloat read[CHANNELS], vfloat parted[CHANNELS]) {
    vfloat a = read[0], b = read[1], c = read[2], d = read[3];
    vfloat ab = shuffle(a, b, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    vfloat cd = shuffle(c, d, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    parted[0] = shuffle(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    parted[1] = shuffle(ab, cd, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    ab = shuffle(a, b, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    cd = shuffle(c, d, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    parted[2] = shuffle(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    parted[3] = shuffle(ab, cd, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

/* Adds a photo to the sums. */
static void add_photo(const Warp *warp, const WarpedPhoto *photo, const Pose *pose, Piece *piece, int vectors) {
    const Places *places = &piece->places;
    const float tolerance = 1 / warp->tolerance, nearness = 1 / warp->angle_scale;
    for (int i = 0; i < vectors; i++) {
        vint inside = places->inside[i];
        if (!any(inside)) continue;
        vfloat read[CHANNELS], line[3], point[3] = {piece->point[0][i], piece->point[1][i], piece->point[2][i]};
        part_channels(piece->read + CHANNELS * i, read);
        line_to(pose->center, point, line);
        vfloat chord = all_lanes(0), z = places->depth[i];
        for (int k = 0; k < 3; k++) {
            vfloat step = line[k] - piece->line[k][i];
            chord += step * step;
        }
        vfloat angle = angle_of(vmin(vsqrt(chord) * 0.5f, all_lanes(1)));
        vfloat apart = (z - read[3]) / vmax(z, all_lanes(1e-6f)) * tolerance;
        vfloat power = -1.44269504f * (apart * apart + angle * nearness); /* log2 of the weight */
        vfloat weight = keep(inside & (power > -126), vexp2(vmax(power, all_lanes(-126)))) * photo->share;
        vfloat square = all_lanes(0);
        for (int k = 0; k < 3; k++) {
            vfloat residual = keep(inside, read[k]);
            piece->residual[k][i] += weight * residual;
            square += residual * residual;
        }
        piece->weight[i] += weight;
        piece->square[i] += weight * square * (1.0f / 3.0f);
        piece->angle[i] += weight * angle;
    }
}

static void close_piece(const Warp *warp, const Piece *piece, int row, int from, int count) {
    const size_t plane = (size_t)warp->width * warp->height;
    float *to = warp->sums + (size_t)row * warp->width + from;
    for (int i = 0; i * LANES < count; i++, to += LANES) {
        const int left = count - i * LANES;
        store_first(to, piece->weight[i], left);
        for (int k = 0; k < 3; k++) store_first(to + (1 + k) * plane, piece->residual[k][i], left);
        store_first(to + 4 * plane, piece->square[i], left);
        store_first(to + 5 * plane, piece->angle[i], left);
    }
}

static void warp_rows(void *argument, Team *team, int rank) {
    const Warp *warp = argument;
    const Pose view = pose_of(warp->pose);
    Piece piece;
    for (int row = (int)share(team, rank, warp->height); row < share(team, rank + 1, warp->height); row++)
        for (int from = 0; from < warp->width; from += PIECE * LANES) {
            int count = warp->width - from < PIECE * LANES ? warp->width - from : PIECE * LANES;
            int vectors = (count + LANES - 1) / LANES;
            open_piece(warp, &view, &piece, row, from, count);
            for (int k = 0; k < warp->count; k++) {
                const Pose pose = pose_of(warp->photos[k].pose);
                if (!find_places(&warp->photos[k], &pose, &piece, vectors)) continue;
                read_photo(&warp->photos[k], &piece, vectors);
                add_photo(warp, &warp->photos[k], &pose, &piece, vectors);
            }
            close_piece(warp, &piece, row, from, count);
        }
}

void qsplat_warp(const Warp *warp) {
    team_run(warp->threads, warp_rows, (void *)warp);
}
