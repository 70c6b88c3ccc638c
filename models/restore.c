/* The compiled form of `models/restore_numpy.py`: the same class map, bit for bit, many times sooner.

   Needs no Python headers: `models/restore.py` calls it through ctypes, which checks nothing. Compile without contraction of
   a * b + c and without fast-math, or the bits differ. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Cell i is the first of the two cells that `count[i]` pixels from `start[i]` on lie between; `weight` is the second one's, for each pixel. */
typedef struct {
    int64_t num_cells, num_pixels;
    const int64_t *start, *count;
    const float *weight;
} Axis;

/* Eight pixels at a time, so `line` has room for seven more than a row. */
static void fill_nearest(const uint8_t *cells, const Axis *rows, const Axis *columns, uint8_t *line, uint8_t *restored) {
    const size_t width = (size_t)columns->num_pixels;
    for (int64_t y = 0; y < rows->num_cells; y++, cells += columns->num_cells) {
        if (rows->count[y] == 0) continue;
        for (int64_t x = 0; x < columns->num_cells; x++) {
            const uint64_t eight = cells[x] * UINT64_C(0x0101010101010101);
            for (int64_t column = 0; column < columns->count[x]; column += 8) memcpy(line + columns->start[x] + column, &eight, 8);
        }
        uint8_t *first = restored + rows->start[y] * columns->num_pixels;
        for (int64_t row = 0; row < rows->count[y]; row++) memcpy(first + (size_t)row * width, line, width);
    }
}

/* The float of a float16 that is finite and not negative, given as bits; exact, subnormal numbers too. */
static float to_float(int16_t half) {
    const uint32_t bits = (uint32_t)half << 13;
    float scaled;
    memcpy(&scaled, &bits, sizeof scaled);
    return scaled * 0x1p112f;
}

/* Which of K classes may win between four cells: those whose highest probability is not below another's lowest, ascending. Float16
   numbers that are not negative order as their bits do. */
static int find_contenders(const int16_t *const corner[4], int num_classes, uint8_t *contenders) {
    int16_t highest[256], floor = 0;
    const int16_t *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    for (int k = 0; k < num_classes; k++) {
        const int16_t low_ab = a[k] < b[k] ? a[k] : b[k], low_cd = c[k] < d[k] ? c[k] : d[k], low = low_ab < low_cd ? low_ab : low_cd;
        const int16_t high_ab = a[k] > b[k] ? a[k] : b[k], high_cd = c[k] > d[k] ? c[k] : d[k];
        highest[k] = high_ab > high_cd ? high_ab : high_cd;
        floor = low > floor ? low : floor;
    }
    int number = 0;
    for (int k = 0; k < num_classes; k++) {
        contenders[number] = (uint8_t)k;
        number += highest[k] >= floor;
    }
    return number;
}

static void decide(const int16_t *const corner[4], const uint8_t *contenders, int number, const Axis *rows, const Axis *columns,
                   int64_t y, int64_t x, uint8_t *restored) {
    float probability[256][4], upper[256], lower[256];
    for (int i = 0; i < number; i++)
        for (int j = 0; j < 4; j++) probability[i][j] = to_float(corner[j][contenders[i]]);
    for (int64_t column = columns->start[x]; column < columns->start[x] + columns->count[x]; column++) {
        const float right = columns->weight[column], left = 1 - right;
        for (int i = 0; i < number; i++) {
            upper[i] = probability[i][0] * left + probability[i][1] * right;
            lower[i] = probability[i][2] * left + probability[i][3] * right;
        }
        for (int64_t row = rows->start[y]; row < rows->start[y] + rows->count[y]; row++) {
            const float down = rows->weight[row], up = 1 - down;
            float best = upper[0] * up + lower[0] * down;
            int winner = 0;
            for (int i = 1; i < number; i++) {
                const float value = upper[i] * up + lower[i] * down;
                if (value > best) { /* where equal, the lowest index stays */
                    best = value;
                    winner = i;
                }
            }
            restored[row * columns->num_pixels + column] = contenders[winner];
        }
    }
}

/* Shapes: cells (H, W); border_cells (M,), ascending flat indices; probabilities (M, K), bits of float16, at most 255 classes; restored
   (h, w), written; place (H * W,) and line (w + 7,), room to work in. */
void maskworks_restore_class_map(const uint8_t *cells, const int32_t *border_cells, int64_t num_border_cells,
                                 const int16_t *probabilities, int64_t num_classes, const Axis *rows, const Axis *columns,
                                 uint8_t *restored, int32_t *place, uint8_t *line) {
    fill_nearest(cells, rows, columns, line, restored);
    for (int64_t m = 0; m < num_border_cells; m++) place[border_cells[m]] = (int32_t)m;
    const int64_t width = columns->num_cells;
    for (int64_t m = 0, y = 0; m < num_border_cells; m++) {
        const int64_t cell = border_cells[m];
        while (cell >= (y + 1) * width) y++;
        const int64_t x = cell - y * width;
        const int64_t right = x + 1 < width, below = y + 1 < rows->num_cells ? width : 0;
        const int64_t around[4] = {cell, cell + right, cell + below, cell + below + right};
        const uint8_t class_index = cells[cell];
        if (rows->count[y] == 0 || columns->count[x] == 0) continue;
        if (cells[around[1]] == class_index && cells[around[2]] == class_index && cells[around[3]] == class_index) continue;
        const int16_t *corner[4];
        for (int i = 0; i < 4; i++) corner[i] = probabilities + place[around[i]] * num_classes;
        uint8_t contenders[256];
        const int number = find_contenders(corner, (int)num_classes, contenders);
        decide(corner, contenders, number, rows, columns, y, x, restored);
    }
}
