/* udp_client --port PORT [options]: N sockets, each sending a datagram and waiting for it to come back.
 *
 * What a datagram says depends on the socket and on its number, so an echo of another one is noticed; the bytes are
 * compared in one of --verify-every, and in the others dropped unread by the kernel (MSG_TRUNC). A datagram may be lost
 * where a socket's queue is full; with so few on their way none is, so one that does not come back in a second ends
 * the program with status 1, as a changed one does.
 */
#include "load.h"

struct peer {
    int descriptor;
    bool waiting;
    unsigned number;
    uint64_t sequence;
    uint64_t started;
};

struct udp_load {
    struct load load;
    size_t size;
    unsigned verify_every;

    struct peer *all;  /* owned */
    char *outbound;    /* owned: size bytes, the first of them made anew for each datagram */
    char *inbound;     /* owned: size and one */
    unsigned waiting;  /* how many datagrams are on their way */
    uint64_t progress; /* when one last came back */
};

static void
datagram_send(struct udp_load *udp, struct peer *peer, uint64_t now)
{
    uint64_t words[2];

    peer->sequence++;
    peer->started = now;
    peer->waiting = true;
    udp->waiting++;
    words[0] = peer->number;
    words[1] = peer->sequence;
    memcpy(udp->outbound, words, udp->size < sizeof(words) ? udp->size : sizeof(words));
    if (send(peer->descriptor, udp->outbound, udp->size, 0) != (ssize_t)udp->size) {
        die("peer %u: send: %s", peer->number, strerror(errno));
    }
}

static void
compare(struct udp_load *udp, struct peer *peer)
{
    uint64_t words[2] = {peer->number, peer->sequence};

    memcpy(udp->outbound, words, udp->size < sizeof(words) ? udp->size : sizeof(words));
    if (memcmp(udp->outbound, udp->inbound, udp->size) != 0) {
        die("peer %u: datagram %" PRIu64 " came back changed", peer->number, peer->sequence);
    }
}

static void
peer_event(struct load *load, void *owner, uint32_t events)
{
    struct udp_load *udp = (struct udp_load *)load;
    struct peer *peer = owner;
    bool verify = peer->sequence % udp->verify_every == 0;

    if (!(events & (EPOLLIN | EPOLLERR))) {
        return;
    }
    ssize_t received =
        verify ? recv(peer->descriptor, udp->inbound, udp->size + 1, 0) : recv(peer->descriptor, NULL, 0, MSG_TRUNC);
    if (received < 0) {
        if (errno == EAGAIN) {
            return;
        }
        die("peer %u: recv: %s", peer->number, strerror(errno));
    }
    if (!peer->waiting || received != (ssize_t)udp->size) {
        die("peer %u: a datagram nobody sent", peer->number);
    }
    if (verify) {
        compare(udp, peer);
    }
    uint64_t now = now_ns();
    peer->waiting = false;
    udp->waiting--;
    udp->progress = now;
    load_finished(load, peer->started, now, udp->size);
    if (!load->stopping) {
        datagram_send(udp, peer, now);
    }
}

static void
udp_turn(struct load *load, uint64_t *now)
{
    struct udp_load *udp = (struct udp_load *)load;

    poll_turn(load, now);
    if (udp->waiting > 0 && *now > udp->progress + SECOND_NS) {
        die("%u datagrams did not come back", udp->waiting);
    }
}

static void
open_peers(struct udp_load *udp)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)udp->load.port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    udp->all = allocate(udp->load.connections, sizeof(*udp->all));
    for (unsigned number = 0; number < udp->load.connections; number++) {
        struct peer *peer = &udp->all[number];
        peer->number = number;
        peer->descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (peer->descriptor < 0 || connect(peer->descriptor, (struct sockaddr *)&address, sizeof(address)) < 0) {
            die("peer %u: %s", number, strerror(errno));
        }
        poll_add(&udp->load, peer->descriptor, peer);
    }
}

static void
parse_options(struct udp_load *udp, int argc, char **argv)
{
    static const struct option options[] = {
        LOAD_OPTIONS,
        {"size", required_argument, NULL, 's'},
        {"verify-every", required_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (load_option(&udp->load, option, optarg)) {
            continue;
        }
        switch (option) {
        case 's':
            udp->size = (size_t)parse_number(optarg, 1, "size");
            break;
        case 'v':
            udp->verify_every = (unsigned)parse_number(optarg, 1, "verify-every");
            break;
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct udp_load udp = {
        .load = {LOAD_DEFAULTS, .turn = udp_turn, .event = peer_event},
        .size = 1024,
        .verify_every = 8,
    };

    parse_options(&udp, argc, argv);
    load_begin(&udp.load);
    udp.outbound = allocate(1, udp.size);
    udp.inbound = allocate(1, udp.size + 1);
    open_peers(&udp);
    udp.progress = now_ns();
    for (unsigned number = 0; number < udp.load.connections; number++) {
        datagram_send(&udp, &udp.all[number], udp.progress);
    }
    load_measure(&udp.load);
    udp.load.stopping = true;
    load_wait(&udp.load, &udp.waiting, 0, "datagrams on their way");
    load_report(&udp.load, "datagram");
    return 0;
}
