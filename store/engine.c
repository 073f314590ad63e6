#include "store/engine.h"

static const struct engine_methods *const engines[] = {&engine_memory, &engine_lmdb,
                                                       &engine_rocksdb};

const struct engine_methods *engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

const char *engine_names(void)
{
    return "memory, lmdb and rocksdb";
}
