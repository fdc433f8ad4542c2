/* Reading lines of handwriting with a bundle: the C interface, for other languages. No function throws.
 *
 * Functions that return a pointer return NULL on failure; htr_last_error() then says why, for the calling thread.
 * Results are JSON objects as `htr-read --json` prints them, without "file" and "page"; give them to htr_free().
 */
#ifndef HTR_H
#define HTR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HTR_API __attribute__((visibility("default")))

typedef struct htr_recognizer htr_recognizer; /* for one thread at a time */

/* engine: NULL for the fastest that fits; threads: 0 for all physical cores. */
HTR_API htr_recognizer* htr_open(const char* bundle, const char* engine, int threads);
HTR_API void htr_close(htr_recognizer* recognizer);

HTR_API char* htr_read_file(htr_recognizer* recognizer, const char* path);
HTR_API char* htr_read_image(htr_recognizer* recognizer, const uint8_t* data, size_t size); /* PNG, JPEG, TIFF */
HTR_API char* htr_read_grey(htr_recognizer* recognizer, const uint8_t* pixels, int width, int height, ptrdiff_t stride);
HTR_API void htr_free(char* result);

HTR_API const char* htr_selection(const htr_recognizer* recognizer); /* which model and engine read, and why */
HTR_API const char* htr_last_error(void);
HTR_API const char* htr_version(void);

#ifdef __cplusplus
}
#endif
#endif
