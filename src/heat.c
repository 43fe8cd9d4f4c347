/* SPDX-License-Identifier: Apache-2.0
 *
 * heat.c: matrices as indexed PNG (ISO/IEC 15948: a palette, eight bits a pixel, no filter) in base64; see heat.h.
 */
#include "heat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct colour {
    double r, g, b;
} colour;

/* ---- levels and colours -------------------------------------------------------------------------------------- */

static colour mix(colour a, colour b, double t)
{
    return (colour){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

/* White over blue to near black; or red for minus, white for zero, blue for plus. Every level has a colour of its own. */
static void level_colour(int level, int is_signed, unsigned char rgb[3])
{
    static const colour white = {250, 251, 253}, blue = {52, 120, 196}, dark = {8, 24, 64}, red = {172, 20, 36};
    double t = is_signed ? (level - 128) / 127.0 : level / 255.0;
    colour c = t < 0 ? mix(white, red, fmin(-t, 1)) : t < 0.5 ? mix(white, blue, 2 * t) : mix(blue, dark, 2 * t - 1);
    rgb[0] = (unsigned char)lround(c.r);
    rgb[1] = (unsigned char)lround(c.g);
    rgb[2] = (unsigned char)lround(c.b);
}

void heat_palette(FILE *f, int is_signed)
{
    unsigned char rgb[3];
    for (int i = 0; i < HEAT_LEVELS; i++) {
        level_colour(i, is_signed, rgb);
        fprintf(f, "%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    }
}

static unsigned char level_of(const heat *h, double value)
{
    double t = h->largest > 0 ? sqrt(fabs(value) / h->largest) : 0;
    if (h->is_signed)
        return (unsigned char)(128 + lround(127 * (value < 0 ? -t : t)));
    return (unsigned char)(value > 0 ? fmax(1, (double)lround(255 * t)) : 0);
}

static float strongest(const float *values, size_t cols, const size_t r[2], const size_t c[2])
{
    float best = 0;
    for (size_t i = r[0]; i < r[1]; i++)
        for (size_t j = c[0]; j < c[1]; j++)
            if (fabsf(values[i * cols + j]) > fabsf(best))
                best = values[i * cols + j];
    return best;
}

/* Rows of pixels, each after a byte 0 that says that no filter was used. */
static unsigned char *make_pixels(const float *values, size_t rows, size_t cols, const heat *h)
{
    unsigned char *pixels = malloc(h->rows * (h->cols + 1) + 1);
    for (size_t i = 0; pixels && i < h->rows; i++) {
        unsigned char *row = pixels + i * (h->cols + 1);
        const size_t r[2] = {i * rows / h->rows, (i + 1) * rows / h->rows};
        *row++ = 0;
        for (size_t j = 0; j < h->cols; j++) {
            const size_t c[2] = {j * cols / h->cols, (j + 1) * cols / h->cols};
            row[j] = level_of(h, (double)strongest(values, cols, r, c));
        }
    }
    return pixels;
}

/* ---- PNG ----------------------------------------------------------------------------------------------------- */

static void put32(FILE *f, uint32_t x)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        fputc((int)(x >> shift & 255), f);
}

static void put_chunk(FILE *f, const char *name, const unsigned char *data, size_t size)
{
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)name, 4);
    if (size)
        crc = crc32(crc, data, (uInt)size);
    put32(f, (uint32_t)size);
    fwrite(name, 1, 4, f);
    fwrite(data, 1, size, f);
    put32(f, (uint32_t)crc);
}

static void put_png(FILE *f, const heat *h, const unsigned char *packed, size_t size)
{
    unsigned char head[13] = {0}, palette[3 * HEAT_LEVELS];
    for (int k = 0; k < 4; k++) {
        head[k] = (unsigned char)(h->cols >> (24 - 8 * k));
        head[4 + k] = (unsigned char)(h->rows >> (24 - 8 * k));
    }
    head[8] = 8; /* bits a pixel */
    head[9] = 3; /* a palette */
    for (int i = 0; i < HEAT_LEVELS; i++)
        level_colour(i, h->is_signed, &palette[3 * i]);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, f);
    put_chunk(f, "IHDR", head, sizeof head);
    put_chunk(f, "PLTE", palette, sizeof palette);
    put_chunk(f, "IDAT", packed, size);
    put_chunk(f, "IEND", palette, 0);
}

static char *base64(const unsigned char *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((size + 2) / 3 * 4 + 1), *at = text;
    for (size_t i = 0; text && i < size; i += 3) {
        unsigned long bits = (unsigned long)data[i] << 16;
        bits |= i + 1 < size ? (unsigned long)data[i + 1] << 8 : 0;
        bits |= i + 2 < size ? data[i + 2] : 0;
        for (int k = 0; k < 4; k++)
            *at++ = i + (size_t)k > size ? '=' : digits[bits >> (18 - 6 * k) & 63];
    }
    if (text)
        *at = '\0';
    return text;
}

static char *encode(const heat *h, const unsigned char *pixels)
{
    size_t raw = h->rows * (h->cols + 1), size = 0;
    uLongf packed_size = compressBound((uLong)raw);
    unsigned char *packed = malloc(packed_size);
    char *file = NULL, *text = NULL;
    FILE *f = packed && compress2(packed, &packed_size, pixels, (uLong)raw, 9) == Z_OK ? open_memstream(&file, &size) : NULL;
    if (f) {
        put_png(f, h, packed, packed_size);
        if (fclose(f) == 0)
            text = base64((const unsigned char *)file, size);
    }
    free(file);
    free(packed);
    return text;
}

/* -------------------------------------------------------------------------------------------------------------- */

int heat_make(const float *values, size_t rows, size_t cols, size_t side, heat *out)
{
    size_t longest = rows > cols ? rows : cols;
    memset(out, 0, sizeof *out);
    out->rows = longest > side ? (rows * side + longest - 1) / longest : rows;
    out->cols = longest > side ? (cols * side + longest - 1) / longest : cols;
    for (size_t i = 0; i < rows * cols; i++) {
        out->largest = fmax(out->largest, fabs((double)values[i]));
        out->is_signed |= values[i] < 0;
    }
    unsigned char *pixels = make_pixels(values, rows, cols, out);
    out->png = pixels ? encode(out, pixels) : NULL;
    free(pixels);
    return out->png ? 0 : -1;
}

void heat_free(heat *h)
{
    free(h->png);
    h->png = NULL;
}
