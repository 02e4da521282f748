/* The node processes of one run: started, watched, and ended with all that belongs to them.
 *
 * Four ways to the same crew: on this host (fork and exec, one MPI world through our own PMI server, no mpiexec); on hosts
 * over ssh (Hydra's mpiexec); in the virtual hosts of `ipclab lab` (mpiexec again, with their own door instead of ssh); and
 * inside the world of a user's mpirun, whose rank 0 drives.
 *
 *     struct lab_crew_spec spec = {.nodes = 2, .hosts = hosts};
 *     char endpoint[LAB_CREW_ENDPOINT];
 *     err = lab_crew_endpoint(&spec, endpoint);              // where to serve the control connection
 *     ... lab_bus_serve(endpoint, 2, keys, &bus); spec.control = lab_bus_address(bus) ...
 *     err = lab_crew_start(&spec, lab_now_ns() + 10 * LAB_NS_PER_S, &crew);
 *     ... poll lab_crew_poll_fd(crew) ...
 *     while (lab_crew_event(crew, &event) == 0)
 *         report(event.node, event.text);
 *     lab_crew_end(crew, lab_now_ns() + LAB_NS_PER_S);
 *
 * One thread uses a crew, and that thread must live as long as it: the processes are killed when it ends. */
#ifndef LAB_LAUNCHER_CREW_H
#define LAB_LAUNCHER_CREW_H

#include "launcher/hosts.h"
#include "node/transport.h"
#include "proto/bus/keys.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAB_CREW_NODES_MAX = 1024, LAB_CREW_ENDPOINT = 96, LAB_CREW_TEXT = 768 };

struct lab_crew_spec {
    uint32_t nodes;
    const char *control;           /* lab_bus_address(): what the nodes connect to */
    const struct lab_keys *keys;   /* those of the bus, for nodes on other hosts; NULL: it has none */
    const struct lab_hosts *hosts; /* NULL: all on this host (or in the user's world) */
    bool lab;                      /* `hosts` are virtual hosts (lab_lab_hosts()) */
    bool world;                    /* this process is rank 0 of a user's mpirun: only node 0 is started here */
    bool ranks;                    /* some of what the run starts are MPI ranks */
    bool verbose;                  /* what mpiexec and remote nodes print is passed on to standard error as it comes */
};

struct lab_crew;

/* Is this process one of a user's mpirun (PMI_RANK and PMI_SIZE in its environment)? -EINVAL when they are nonsense: then the
 * answer is no, and the record says why. */
int lab_crew_world(bool *ret_inside, uint32_t *ret_rank, uint32_t *ret_size);

/* Whether the ranks of the user's mpirun are on several hosts, as far as this process was told. Which they are it does not know before
 * their nodes have said HELLO. */
bool lab_crew_apart(void);

/* What to hand to lab_bus_serve(): an abstract socket when every node is on this host, otherwise "tcp://ADDRESS:*" with the
 * local address that lies on the route to the hosts (to all of them, or -EHOSTUNREACH says which two differ).
 * `spec->control` is not looked at. */
int lab_crew_endpoint(const struct lab_crew_spec *spec, char to[LAB_CREW_ENDPOINT]);

/* Starts the processes and returns without waiting for a HELLO. -ENOENT with the places looked at when the node program or
 * mpiexec is missing; whatever had been started is gone again on failure. The strings of `spec` are not kept, `hosts` must
 * outlive the crew. */
int lab_crew_start(const struct lab_crew_spec *spec, uint64_t deadline_ns, struct lab_crew **ret_crew);

/* Readable when lab_crew_event() has something to do: level-triggered, to be polled, never read. */
int lab_crew_poll_fd(const struct lab_crew *crew);

struct lab_crew_event {
    int32_t node; /* -1: mpiexec itself, and with it every node */
    int status;   /* as waitpid(2) gives it */
    bool vague;  /* somebody else may know better what happened */
    char text[LAB_CREW_TEXT]; /* "node 1 on host 10.77.0.2 ended by signal 9 (SIGKILL)" */
};

/* Serves what is to be served (PMI of the nodes, output of mpiexec), then hands over one process that ended, each once, also
 * those that ended as they should. -EAGAIN: none. Never blocks. */
int lab_crew_event(struct lab_crew *crew, struct lab_crew_event *ret_event);

/* Processes of this crew that have not been seen to end. */
uint32_t lab_crew_alive(const struct lab_crew *crew);

/* The host that a node runs on, "this host" when local. */
const char *lab_crew_host(const struct lab_crew *crew, uint32_t node);

/* Ends everything. Who was told to go (BYE) may use the time until `grace_deadline_ns` (0: none) to leave by itself; then
 * SIGKILL to each process that the crew started, found by pidfd, and to their descendants, found by the mark in their
 * environment, wherever they were reparented to; then the shared-memory files of MPI that nobody maps any more. Takes at most
 * two seconds beyond the grace. Frees the crew. NULL is harmless. */
void lab_crew_end(struct lab_crew *crew, uint64_t grace_deadline_ns);

/* Full path of an internal program ("ipclab-node"): see base/home.h. -ENOENT names the places. */
int lab_crew_program(const char *name, char *to, size_t room);

/* Whether the module of a transport is beside the internal programs: 0, also for one without; -ENOENT, with the mend. */
int lab_crew_module(const struct lab_transport *transport);

#endif
