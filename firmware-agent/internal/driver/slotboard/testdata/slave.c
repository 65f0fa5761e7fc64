/* A slot board by libmodbus, written from protocol/slotboard/README.md alone. It
 * shares no code with the agent or the simulator: it is the independent peer
 * that the driver is tested against.
 *
 *   cc -o slave slave.c -lmodbus -lpthread
 *   ./slave DEVICE SLOTS
 *
 * Units 1 to SLOTS are slots, unit 100 is the cabinet. Facts are changed by
 * lines on stdin, each answered by "ok" or "error WHY" on stdout:
 *
 *   load N SERIAL SOC     a battery is inside from the beginning (SERIAL "-": mute; SOC in 0.1 %)
 *   insert N SERIAL SOC   put a battery in; the door must be open
 *   remove N              take it out; the door must be open
 *   open N / close N      the door, by hand; a locked door does not open
 *   jam N / unjam N       a pulse does not open the door
 *   dead N / alive N      the unit is silent
 *   reset N               the board restarts: it forgets what is in RAM
 *   button                the rider's button is pressed
 *   show N                answers "slot N door=0|1 locked=0|1 battery=SERIAL|none charge=0|1 pulses=P"
 *   quit
 *
 * Every pulse prints "pulse N SEQ". The first line is "ready".
 */
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAXSLOTS 32
#define CABINET 100
#define COIL_MS 100 /* the coil is driven */
#define OPEN_MS 150 /* the door springs open after the pulse began */
#define JAM_MS 1000 /* no feedback after that */

struct slot {
    modbus_mapping_t *map;
    int door, locked, battery, charge, jammed, dead;
    char serial[25];
    int soc;
    unsigned epoch, changed, tripped;
    unsigned seq, result, pulses;
    long long pulsed, started, heard; /* ms */
};

static struct slot slots[MAXSLOTS + 1];
static modbus_mapping_t *cabinet;
static long long cabinet_started, button_until;
static int nslots, tty;
static int pump[2]; /* [0] libmodbus, [1] the wire */
static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void put32(uint16_t *r, uint32_t v) {
    r[0] = v >> 16;
    r[1] = v & 0xFFFF;
}

static void restart(struct slot *s) {
    uint16_t *h = s->map->tab_registers;
    memset(h, 0, 0x100 * sizeof *h);
    h[0x01] = 400, h[0x13] = 1000, h[0x1A] = 300, h[0x20] = 30;
    s->charge = s->tripped = s->seq = s->result = 0;
    s->changed = 1;
    s->started = s->heard = now_ms();
    s->pulsed = 0;
}

/* Let time do what it does: the door springs open, the watchdog trips. */
static void pass_time(struct slot *s, long long now) {
    if (s->pulsed && s->result == 1) {
        if (!s->jammed && now - s->pulsed >= OPEN_MS) {
            s->door = 1;
            s->locked = 0;
            s->result = 2;
        } else if (s->jammed && now - s->pulsed >= JAM_MS) {
            s->result = 3;
        }
    }
    int watchdog = s->map->tab_registers[0x20];
    if (watchdog && now - s->heard > watchdog * 1000LL) {
        s->tripped = 1;
        s->charge = 0;
        s->map->tab_registers[0x10] = 0;
    }
}

static int flows(struct slot *s) { return s->charge && s->battery && s->serial[0] && s->soc < 1000; }

static void fill(struct slot *s, long long now) {
    uint16_t *r = s->map->tab_input_registers;
    int mute = !s->battery || !s->serial[0];
    int jammed = s->result == 3;
    unsigned status = s->door | (s->pulsed && now - s->pulsed < COIL_MS) << 1 | s->locked << 2 | s->battery << 3 |
                      !mute << 4 | 1 << 5 | flows(s) << 6 | (!mute && s->soc >= 1000) << 7 | s->charge << 12 |
                      s->tripped << 13 | s->changed << 14 | jammed << 15;
    memset(r, 0, 0xA0 * sizeof *r);
    r[0x00] = status;
    put32(r + 0x01, jammed ? 1u << 16 : 0);
    r[0x03] = mute ? 0xFFFF : s->soc;
    put32(r + 0x04, mute ? 0xFFFFFFFFu : 44000u + 10u * s->soc);
    put32(r + 0x06, mute ? 0x7FFFFFFFu : flows(s) ? 5000u : (uint32_t)-20);
    r[0x08] = mute ? 0x7FFF : 251;
    r[0x09] = mute ? 0x7FFF : 246;
    r[0x0A] = 219;
    r[0x0B] = flows(s) ? 3 : 1;
    r[0x0C] = flows(s) ? 546 : 0;
    r[0x0D] = flows(s) ? 500 : 0;
    r[0x0E] = s->seq << 8 | s->result;
    r[0x0F] = (now - s->started) / 1000;
    r[0x10] = s->epoch;
    for (int i = 0; i < 12; i++)
        r[0x20 + i] = mute ? 0 : (uint8_t)s->serial[2 * i] << 8 | (uint8_t)s->serial[2 * i + 1];
    for (int i = 0x2C; i < 0x36; i++) r[i] = 0xFFFF;
    for (int i = 0x40; i < 0x60; i++) r[i] = 0xFFFF;
    for (int i = 0x60; i < 0x68; i++) r[i] = 0x7FFF;
    r[0x68] = 690, r[0x69] = 1000;
    memcpy(r + 0x80, (uint16_t[]){'C' << 8 | 's', 'l' << 8 | 'a', 'v' << 8 | 'e', 0}, 8);
    put32(r + 0x8C, (now - s->started) / 1000);
    r[0x8E] = 0xFFFF;
    r[0x8F] = 1;
    for (int i = 0; i < 16; i++) s->map->tab_input_bits[i] = status >> i & 1;
}

static void fill_cabinet(long long now) {
    uint16_t *r = cabinet->tab_input_registers;
    memset(r, 0, 0x40 * sizeof *r);
    r[0] = 1 << 4 | 1 << 14 | (now < button_until) << 11;
    r[1] = 264, r[2] = 231, r[3] = 240, r[4] = 450, r[5] = 0xFFFF, r[6] = 12600;
    r[7] = (now - cabinet_started) / 1000;
    r[8] = 0x7FFF;
}

/* What a write means. Returns the exception to answer, 0 for none. */
static int written(struct slot *s, int unit, int address, int value, long long now) {
    switch (address) {
    case 0x00:
        if (value >> 8 != 0x4F || !(value & 0xFF)) return MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE;
        if ((unsigned)(value & 0xFF) == s->seq) return 0; /* again: nothing moves */
        s->seq = value & 0xFF;
        if (flows(s)) {
            s->result = 4;
            return 0;
        }
        s->result = 1;
        s->pulsed = now;
        s->pulses++;
        printf("pulse %d %u\n", unit, s->seq);
        return 0;
    case 0x01:
        return value < 50 || value > 1000 ? MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE : 0;
    case 0x10:
        if (value > 1) return MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE;
        s->charge = value;
        return 0;
    case 0x20:
        return value > 3600 ? MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE : 0;
    case 0x21:
        if ((unsigned)value != s->epoch) return MODBUS_EXCEPTION_ILLEGAL_DATA_VALUE;
        s->changed = 0;
        return 0;
    }
    return address < 0x30 ? 0 : MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
}

static void answer(modbus_t *bus, uint8_t *q, int n) {
    int unit = q[0], exception = 0;
    long long now = now_ms();
    pthread_mutex_lock(&world);
    if (unit == CABINET) {
        fill_cabinet(now);
        modbus_reply(bus, q, n, cabinet);
    } else if (unit >= 1 && unit <= nslots && !slots[unit].dead) {
        struct slot *s = &slots[unit];
        pass_time(s, now);
        s->heard = now;
        s->tripped = 0;
        if (q[1] == 6) exception = written(s, unit, q[2] << 8 | q[3], q[4] << 8 | q[5], now);
        fill(s, now);
        if (exception)
            modbus_reply_exception(bus, q, exception);
        else
            modbus_reply(bus, q, n, s->map);
        s->map->tab_registers[0] = 0;
    }
    pthread_mutex_unlock(&world);
}

/* libmodbus answers one unit for each context, so bytes pass through a socket
 * where the next frame's unit can be seen before libmodbus reads it. */
static void *copy(void *way) {
    int from = way ? tty : pump[1], to = way ? pump[1] : tty;
    uint8_t b[256];
    for (ssize_t n; (n = read(from, b, sizeof b)) > 0;)
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(to, b + done, n - done)) <= 0) die("write");
    die("line");
    return NULL;
}

static void *serve(void *unused) {
    uint8_t q[MODBUS_RTU_MAX_ADU_LENGTH], unit;
    modbus_t *bus = modbus_new_rtu("/dev/null", 19200, 'N', 8, 1);
    if (!bus) die("modbus_new_rtu");
    modbus_set_socket(bus, pump[0]);
    modbus_set_error_recovery(bus, MODBUS_ERROR_RECOVERY_PROTOCOL);
    modbus_set_response_timeout(bus, 0, 20000);
    modbus_set_byte_timeout(bus, 0, 20000);
    for (;;) {
        if (recv(pump[0], &unit, 1, MSG_PEEK) != 1) die("recv");
        if (modbus_set_slave(bus, unit) < 0) { /* noise */
            if (read(pump[0], &unit, 1) != 1) die("read");
            continue;
        }
        int n = modbus_receive(bus, q);
        if (n > 0)
            answer(bus, q, n);
        else
            while (recv(pump[0], q, sizeof q, MSG_DONTWAIT) > 0) continue;
    }
    return unused;
}

static void identity(struct slot *s, int battery, const char *serial, int soc) {
    s->battery = battery;
    snprintf(s->serial, sizeof s->serial, "%s", strcmp(serial, "-") ? serial : "");
    memset(s->serial + strlen(s->serial), 0, sizeof s->serial - strlen(s->serial));
    s->soc = soc;
    s->epoch = (s->epoch + 1) & 0xFFFF;
    s->changed = 1;
}

static const char *act(const char *verb, int n, const char *serial, int soc) {
    if (!strcmp(verb, "button")) return button_until = now_ms() + 2000, NULL;
    if (n < 1 || n > nslots) return "no such slot";
    struct slot *s = &slots[n];
    pass_time(s, now_ms());
    if (!strcmp(verb, "show")) {
        printf("slot %d door=%d locked=%d battery=%s charge=%d pulses=%u\n", n, s->door, s->locked,
               !s->battery ? "none" : s->serial[0] ? s->serial : "-", s->charge, s->pulses);
        return NULL;
    }
    if (!strcmp(verb, "load") || !strcmp(verb, "insert")) {
        if (s->battery) return "a battery is inside";
        if (verb[0] == 'i' && !s->door) return "the door is shut";
        if (!serial[0] || soc < 0 || soc > 1000) return "expected a serial and a soc of 0 to 1000";
        return identity(s, 1, serial, soc), NULL;
    }
    if (!strcmp(verb, "remove")) {
        if (!s->battery) return "no battery is inside";
        if (!s->door) return "the door is shut";
        return identity(s, 0, "-", 0), NULL;
    }
    if (!strcmp(verb, "open")) {
        if (s->locked) return "the door is locked";
        return s->door = 1, NULL;
    }
    if (!strcmp(verb, "close")) return s->door = 0, s->locked = 1, NULL;
    if (!strcmp(verb, "jam") || !strcmp(verb, "unjam")) return s->jammed = verb[0] == 'j', NULL;
    if (!strcmp(verb, "dead") || !strcmp(verb, "alive")) return s->dead = verb[0] == 'd', NULL;
    if (!strcmp(verb, "reset")) return restart(s), NULL;
    return "no such command";
}

int main(int argc, char **argv) {
    if (argc != 3 || (nslots = atoi(argv[2])) < 1 || nslots > MAXSLOTS) {
        fprintf(stderr, "usage: slave DEVICE SLOTS (1 to %d)\n", MAXSLOTS);
        return 2;
    }
    struct termios mode;
    if ((tty = open(argv[1], O_RDWR | O_NOCTTY)) < 0 || tcgetattr(tty, &mode)) die(argv[1]);
    cfmakeraw(&mode);
    cfsetspeed(&mode, B19200);
    if (tcsetattr(tty, TCSANOW, &mode)) die(argv[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pump)) die("socketpair");
    setvbuf(stdout, NULL, _IOLBF, 0);
    cabinet_started = now_ms();
    if (!(cabinet = modbus_mapping_new(0, 0, 6, 0x40))) die("modbus_mapping_new");
    for (int i = 1; i <= nslots; i++) {
        if (!(slots[i].map = modbus_mapping_new(3, 16, 0x100, 0xA0))) die("modbus_mapping_new");
        slots[i].locked = 1;
        restart(&slots[i]);
    }
    pthread_t t;
    if (pthread_create(&t, NULL, copy, NULL) || pthread_create(&t, NULL, copy, &tty) ||
        pthread_create(&t, NULL, serve, NULL))
        die("pthread_create");
    puts("ready");
    for (char line[256]; fgets(line, sizeof line, stdin);) {
        char verb[16] = "", serial[32] = "";
        int n = 0, soc = -1;
        if (sscanf(line, "%15s %d %24s %d", verb, &n, serial, &soc) < 1) continue;
        if (!strcmp(verb, "quit")) break;
        pthread_mutex_lock(&world);
        const char *why = act(verb, n, serial, soc);
        if (why)
            printf("error %s\n", why);
        else
            puts("ok");
        pthread_mutex_unlock(&world);
    }
    return 0;
}
