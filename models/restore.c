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

/* A line of cells as pixels, eight pixels at a time, where no cell is wider one eight each; so `line` has room for eight more than a row. */
static void widen(const uint8_t *cells, const Axis *columns, int is_narrow, uint8_t *line) {
    const int64_t *const start = columns->start, *const count = columns->count, num_cells = columns->num_cells;
    for (int64_t x = 0; x < num_cells; x++) {
        const uint64_t eight = cells[x] * UINT64_C(0x0101010101010101);
        memcpy(line + start[x], &eight, 8);
        if (is_narrow) continue;
        for (int64_t column = 8; column < count[x]; column += 8) memcpy(line + start[x] + column, &eight, 8);
    }
}

static void fill_nearest(const uint8_t *cells, const Axis *rows, const Axis *columns, uint8_t *line, uint8_t *restored) {
    const size_t width = (size_t)columns->num_pixels;
    int is_narrow = 1;
    for (int64_t x = 0; x < columns->num_cells; x++) is_narrow &= columns->count[x] <= 8;
    for (int64_t y = 0; y < rows->num_cells; y++, cells += columns->num_cells) {
        if (rows->count[y] == 0) continue;
        widen(cells, columns, is_narrow, line);
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

static int16_t lowest(const int16_t *const corner[4], uint8_t k) {
    const int16_t a = corner[0][k], b = corner[1][k], c = corner[2][k], d = corner[3][k];
    const int16_t ab = a < b ? a : b, cd = c < d ? c : d;
    return ab < cd ? ab : cd;
}

/* Which of K classes may win between four cells, ascending: those whose highest probability is not below the lowest one of a class
   that wins in a cell. Float16 numbers that are not negative order as their bits do. */
static int find_contenders(const int16_t *const corner[4], const uint8_t winner[4], int num_classes, uint8_t *contenders) {
    const int16_t *a = corner[0], *b = corner[1], *c = corner[2], *d = corner[3];
    int16_t floor = 0;
    for (int i = 0; i < 4; i++) {
        const int16_t low = lowest(corner, winner[i]);
        floor = low > floor ? low : floor;
    }
    uint8_t may_win[264];
    for (int k = 0; k < num_classes; k++) may_win[k] = (a[k] >= floor) | (b[k] >= floor) | (c[k] >= floor) | (d[k] >= floor);
    memset(may_win + num_classes, 0, 8);
    int number = 0;
    for (int first = 0; first < num_classes; first += 8) { /* few of many classes may, so most eights are zero */
        uint64_t eight;
        memcpy(&eight, may_win + first, 8);
        if (eight == 0) continue;
        for (int k = first; k < first + 8; k++) {
            contenders[number] = (uint8_t)k;
            number += may_win[k];
        }
    }
    return number;
}

/* The class of each pixel of a cell. Inlined, so that the compiler unrolls it for a `number` that it knows. */
static inline __attribute__((always_inline)) void decide(const int16_t *const corner[4], const uint8_t *contenders, int number,
                                                         const Axis *rows, const Axis *columns, int64_t y, int64_t x,
                                                         uint8_t *restored) {
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
            for (int i = 1; i < number; i++) { /* no branch: which one wins is hard to foresee */
                const float value = upper[i] * up + lower[i] * down;
                const int is_better = value > best; /* where equal, the lowest index stays */
                best = is_better ? value : best;
                winner = is_better ? i : winner;
            }
            restored[row * columns->num_pixels + column] = contenders[winner];
        }
    }
}

/* Shapes: cells (H, W); border_cells (M,), ascending flat indices; probabilities (M, K), bits of float16, at most 255 classes; restored
   (h, w), written; place (H * W,) and line (w + 8,), room to work in. */
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
        const uint8_t winner[4] = {cells[around[0]], cells[around[1]], cells[around[2]], cells[around[3]]};
        if (rows->count[y] == 0 || columns->count[x] == 0) continue;
        if (winner[1] == winner[0] && winner[2] == winner[0] && winner[3] == winner[0]) continue;
        const int16_t *corner[4];
        for (int i = 0; i < 4; i++) corner[i] = probabilities + place[around[i]] * num_classes;
        uint8_t contenders[264];
        const int number = find_contenders(corner, winner, (int)num_classes, contenders);
        if (number == 2) /* by far the most */
            decide(corner, contenders, 2, rows, columns, y, x, restored);
        else
            decide(corner, contenders, number, rows, columns, y, x, restored);
    }
}
