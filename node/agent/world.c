#include "node/agent/world.h"

#include "base/error.h"
#include "base/text.h"
#include "node/transport.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

int lab_world_rank(int *ret_rank)
{
    const char *text = getenv("PMI_RANK");
    uint64_t rank;
    if (!text)
        return lab_refuse(ENOENT, "--world, but no mpiexec started this process (PMI_RANK is not set)");
    int err = lab_parse_count(text, &rank);
    if (!err && rank > INT_MAX)
        err = lab_refuse(ERANGE, "PMI_RANK is %s", text);
    if (!err)
        *ret_rank = (int)rank;
    return err;
}

int lab_world_share(char address[LAB_WORLD_ADDRESS])
{
    const struct lab_transport *mpi = lab_transport_named("mpi");
    const struct lab_transport_ops *ops = lab_transport_ops(mpi);
    if (!ops)
        return lab_while(-lab_error_last()->code, "telling the other ranks where the launcher is");
    int err = ops->share(address, LAB_WORLD_ADDRESS);
    address[LAB_WORLD_ADDRESS - 1] = '\0';
    return err;
}
