/* A CUDA driver's library for staged machines: as much of it as the doctor and the staged torch ask.
 *
 * Compiled with -DCUDA=12040 (the version it states), -DSTATUS=0 (what cuInit returns),
 * -DGPUS='{"NAME", 8, 6, GIB}, …', -DCOUNT; -DHANGS and -DDIES do what they say.
 * CUDA_VISIBLE_DEVICES is honoured as the real one does: up to the first number that is wrong.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { const char *name; int major, minor; size_t gib; } gpu;
static const gpu gpus[] = { GPUS };
static int visible[16], count = -1;

static void look(void) {
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    count = 0;
    if (text == NULL) {
        while (count < COUNT) { visible[count] = count; count++; }
        return;
    }
    char copy[256];
    strncpy(copy, text, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    for (char *word = strtok(copy, ","); word != NULL && count < 16; word = strtok(NULL, ",")) {
        char *end;
        long index = strtol(word, &end, 10);
        if (end == word || *end != 0 || index < 0 || index >= COUNT) return;
        visible[count++] = (int)index;
    }
}

int cuInit(unsigned flags) {
    (void)flags;
#ifdef HANGS
    for (;;) sleep(60);
#endif
#ifdef DIES
    abort();
#endif
    look();
    if (STATUS == 0 && count == 0) return 100;
    return STATUS;
}

int cuDriverGetVersion(int *version) { *version = CUDA; return 0; }
int cuDeviceGetCount(int *number) { *number = count; return 0; }
int cuDeviceGet(int *device, int index) { *device = visible[index]; return 0; }

int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, gpus[device].name, length);
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? gpus[device].major : attribute == 76 ? gpus[device].minor : 0;
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = gpus[device].gib << 30;
    return 0;
}
