/* The short way of a span and of a log record into the journal, in C; the Python code is the reference and remains.

   No function here runs Python code: what would need any (a value of another type, a key that is not known to be
   harmless, a string that might hold a secret, a journal that wants to look at its file) is declined, with nothing
   written, and the caller goes the general way. So no borrowed reference can go stale, no dict can change while it is
   read, and under the GIL each call is one step for every other thread and every signal handler.

   Everything is put together in a buffer of fixed size on the stack; what does not fit is declined as well. */

#define PY_SSIZE_T_CLEAN
#include <Python.h> /* it comes first, and asks for what the system has beyond POSIX */
#include <structmember.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#ifdef Py_GIL_DISABLED
#error "the journal's appends rely on the GIL"
#endif

enum { RECORD_MOST = 8192, LINE_MOST = 8192, LARGEST_RECORD = 4 << 20, KINDS = 16 };
enum { FRAME_SIZE = 12, HEADER_SIZE = 512, FIXED_SIZE = 56, COMMITTED_AT = 64 };
enum { HEAD_MOST = 1 + 10 }; /* a tag and a length: they go before a body that is finished */
enum { LOG = 6, SHORTEST_SECRET = 20, LONGEST_CLEARED = 512, LONGEST_NAME = 256 };

/* Clocks. Durations go by the one that nobody sets, the same that Python's time.monotonic_ns() reads. When to look at
   the file is told by a coarse reading of it, at a fifth of the price. */

#ifdef __APPLE__
#define STEADY CLOCK_UPTIME_RAW
#else
#define STEADY CLOCK_MONOTONIC
#endif
#ifdef CLOCK_MONOTONIC_COARSE
#define COARSE CLOCK_MONOTONIC_COARSE
#else
#define COARSE STEADY
#endif

static inline uint64_t
read_clock(clockid_t which)
{
    struct timespec now;
    return clock_gettime(which, &now) ? 0 : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Checksums: zlib's polynomial, eight bytes at a time (Kounavis and Berry, "A systematic approach to building high
   performance software-based CRC generators", 2005). */

static uint32_t crc_table[8][256];

static void
crc_prepare(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        crc_table[0][n] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int n = 0; n < 256; n++)
            crc_table[slice][n] = crc_table[slice - 1][n] >> 8 ^ crc_table[0][crc_table[slice - 1][n] & 0xFF];
}

static uint32_t
crc32_of(const unsigned char *p, size_t length, uint32_t crc)
{
    crc = ~crc;
    for (; length >= 8; length -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = crc_table[7][crc & 0xFF] ^ crc_table[6][crc >> 8 & 0xFF] ^ crc_table[5][crc >> 16 & 0xFF] ^
              crc_table[4][crc >> 24] ^ crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
              crc_table[0][p[7]];
    }
    for (; length; length--, p++)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xFF];
    return ~crc;
}

/* Writing: every put looks whether there is room, and does nothing once there was none. */

typedef struct {
    unsigned char *at, *end;
    int full;
} Out;

static inline int
has_room(Out *out, size_t length)
{
    if (out->full || length > (size_t)(out->end - out->at))
        out->full = 1;
    return !out->full;
}

static inline void
put(Out *out, const void *bytes, size_t length)
{
    if (has_room(out, length)) {
        memcpy(out->at, bytes, length);
        out->at += length;
    }
}

static inline void
put_byte(Out *out, unsigned char byte)
{
    put(out, &byte, 1);
}

static inline void
put_varint(Out *out, uint64_t number)
{
    unsigned char bytes[10];
    size_t length = 0;
    for (; number > 0x7F; number >>= 7)
        bytes[length++] = (unsigned char)(number | 0x80);
    bytes[length++] = (unsigned char)number;
    put(out, bytes, length);
}

static inline size_t
varint_size(uint64_t number)
{
    size_t size = 1;
    while (number >>= 7)
        size++;
    return size;
}

static inline void
store_little(unsigned char *to, uint64_t number, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (unsigned char)(number >> 8 * i);
}

static inline void
put_fixed64(Out *out, unsigned char tag, uint64_t number)
{
    unsigned char bytes[9] = {tag};
    store_little(bytes + 1, number, 8);
    put(out, bytes, sizeof bytes);
}

static inline void
put_bytes(Out *out, PyObject *bytes)
{
    if (PyBytes_CheckExact(bytes))
        put(out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    else
        out->full = 1;
}

/* Secrets. What is cleared here, redaction.py clears as well; where it is not as easy to say, redaction.py is asked. */

static const struct {
    const char *word;
    char beside; /* a character that the whole of it holds too */
} suspicious[] = { /* those with the same first byte together */
    {"-----begin", 0}, {"-u ", 0}, {"1//0", 0}, {"8q~", 0}, {"://", '@'}, {":aa", 0}, {"_v1_", 0},
    {"appid=", 0}, {"auth=", 0}, {"assertion=", 0}, {"akia", 0}, {"asia", 0}, {"abia", 0}, {"acca", 0},
    {"aiza", 0}, {"atatt3", 0}, {"atctt3", 0}, {"atbb", 0}, {"bearer", 0}, {"basic", 0}, {"credential", 0},
    {"cookie", 0}, {"code=", 0}, {"dckr_", 0}, {"dapi", 0}, {"eyj", '.'}, {"figd_", 0}, {"figo_", 0},
    {"ghp_", 0}, {"gho_", 0}, {"ghu_", 0}, {"ghs_", 0}, {"ghr_", 0}, {"github_pat_", 0}, {"gsk_", 0},
    {"glsa_", 0}, {"glc_", 0}, {"glpat-", 0}, {"gldt-", 0}, {"glrt-", 0}, {"glptt-", 0}, {"glft-", 0},
    {"glimt-", 0}, {"glagent-", 0}, {"glcbt-", 0}, {"gloas-", 0}, {"glsoat-", 0}, {"glffct-", 0},
    {"gocspx-", 0}, {"hf_", 0}, {"hvs.", 0}, {"hvb.", 0}, {"hvr.", 0}, {"hooks.slack", 0}, {"jwt=", 0},
    {"key", 0}, {"k_live_", 0}, {"k_test_", 0}, {"lin_", 0}, {"npm_", 0}, {"ntn_", 0}, {"nrak-", 0},
    {"nrii-", 0}, {"nrjs-", 0}, {"otp=", 0}, {"pass", 0}, {"pwd", 0}, {"pypi-", 0}, {"pat-na", 0},
    {"pat-eu", 0}, {"pat-ap", 0}, {"pmak-", 0}, {"secret", 0}, {"sid=", 0}, {"sessionid=", 0},
    {"session_id=", 0}, {"sig", '='}, {"sig", '%'}, {"sig", ':'}, {"sig", ','}, {"shpat_", 0}, {"shpca_", 0},
    {"shppa_", 0}, {"shpss_", 0}, {"sntry", 0}, {"sbp_", 0}, {"sk-", 0}, {"token", 0}, {"uthori", 0},
    {"v1.", 0}, {"whsec_", 0}, {"xox", '-'}, {"xapp-", 0}, {"xwfp-", 0}, {"ya29.", 0},
    {"\xe2\x84\xaa", 0}, /* the Kelvin sign, whose lower case is a k */
    {"\xc4\xb0", 0},     /* the dotted capital I, whose lower case begins with an i */
};
enum { SUSPICIOUS = sizeof suspicious / sizeof *suspicious };
static unsigned char begins[256]; /* by first byte: 1 + the index of the first such word */

static int
is_clear(const char *text, size_t size, size_t characters)
{
    if (characters < SHORTEST_SECRET && !memchr(text, ':', size) && !memchr(text, '=', size)
        && !memchr(text, ',', size) && !memchr(text, '%', size) && !memchr(text, '-', size))
        return 1;
    if (size > LONGEST_CLEARED)
        return 0;
    unsigned char low[LONGEST_CLEARED + 1];
    for (size_t i = 0; i < size; i++)
        low[i] = (unsigned char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]);
    low[size] = 0;
    for (size_t i = 0; i + 2 < size; i++)
        if (text[i] == 'S' && text[i + 1] == 'G' && text[i + 2] == '.') /* SendGrid; "msg." is none */
            return 0;
    for (size_t i = 0; i < size; i++) {
        if (!begins[low[i]])
            continue;
        for (size_t n = begins[low[i]] - 1u; n < SUSPICIOUS; n++) {
            const char *word = suspicious[n].word;
            if ((unsigned char)word[0] != low[i])
                break;
            size_t length = 0;
            while (word[length] && low[i + length] == (unsigned char)word[length]) /* the 0 behind `low` ends it */
                length++;
            if (!word[length] && (!suspicious[n].beside || memchr(low, suspicious[n].beside, size)))
                return 0;
        }
    }
    return 1;
}

/* Attributes: repeated KeyValue fields. `known` has the encoded key of each name that is no secret's. */

static int
put_value(Out *out, unsigned char tag, PyObject *key, PyObject *value, int is_guarded)
{
    const char *text = NULL;
    Py_ssize_t size = 0;
    uint64_t number = 0;
    size_t length = 0; /* of the AnyValue */
    if (PyUnicode_CheckExact(value)) {
        text = PyUnicode_AsUTF8AndSize(value, &size);
        if (!text) {
            PyErr_Clear(); /* half a surrogate pair */
            return 0;
        }
        if (is_guarded && !is_clear(text, (size_t)size, (size_t)PyUnicode_GET_LENGTH(value)))
            return 0;
        length = 1 + varint_size((uint64_t)size) + (size_t)size;
    }
    else if (PyLong_CheckExact(value)) {
        int overflow;
        number = (uint64_t)PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow)
            return 0;
        length = 1 + varint_size(number);
    }
    else if (PyBool_Check(value))
        length = 2;
    else if (PyFloat_CheckExact(value))
        length = 9;
    else if (value != Py_None)
        return 0;
    size_t key_size = (size_t)PyBytes_GET_SIZE(key);
    put_byte(out, tag);
    put_varint(out, key_size + 1 + varint_size(length) + length);
    put(out, PyBytes_AS_STRING(key), key_size);
    put_byte(out, 0x12);
    put_varint(out, length);
    if (text) {
        put_byte(out, 0x0A);
        put_varint(out, (uint64_t)size);
        put(out, text, (size_t)size);
    }
    else if (PyLong_CheckExact(value)) {
        put_byte(out, 0x18);
        put_varint(out, number);
    }
    else if (PyBool_Check(value))
        put(out, value == Py_True ? "\x10\x01" : "\x10\x00", 2);
    else if (PyFloat_CheckExact(value)) {
        double real = PyFloat_AS_DOUBLE(value);
        memcpy(&number, &real, sizeof number);
        put_fixed64(out, 0x21, number);
    }
    return 1;
}

/* 1: all are written; 0: declined. `taken` are names that must not be among them. */
static int
put_attributes(Out *out, unsigned char tag, PyObject *attributes, PyObject *known, PyObject *taken, int is_guarded)
{
    PyObject *name, *value;
    Py_ssize_t position = 0;
    if (!PyDict_CheckExact(attributes) || !PyDict_CheckExact(known) || !PyAnySet_CheckExact(taken))
        return 0;
    while (PyDict_Next(attributes, &position, &name, &value)) {
        if (!PyUnicode_CheckExact(name))
            return 0; /* looking up anything else could run its __hash__ or __eq__ */
        PyObject *key = PyDict_GetItemWithError(known, name);
        if (!key || !PyBytes_CheckExact(key)) {
            PyErr_Clear();
            return 0;
        }
        if (!put_value(out, tag, key, value, is_guarded) || out->full)
            return 0;
        if (PySet_GET_SIZE(taken)) {
            Py_INCREF(name); /* a str of a subclass in the set may have an __eq__ of its own */
            int is_taken = PySet_Contains(taken, name);
            Py_DECREF(name);
            if (is_taken) {
                PyErr_Clear();
                return 0;
            }
        }
    }
    return 1;
}

/* Forks: a page that the kernel wipes in a child holds the number of this process; see forks.py, which notices. */

static const volatile uint64_t *mark; /* NULL: there is no such page, and the process id stands for the number */
static PyObject *notice;

static inline uint64_t
generation(void)
{
    return mark ? *mark : (uint64_t)getpid();
}

PyDoc_STRVAR(watch_forks_doc, "watch_forks(page, notice)\n\nTake the number of this process from the beginning of a "
                              "page, or from its id if that is None; `notice` is called in a child.");

static PyObject *
watch_forks(PyObject *Py_UNUSED(module), PyObject *args)
{
    static Py_buffer view; /* held for ever */
    PyObject *page, *callable;
    if (!PyArg_ParseTuple(args, "OO:watch_forks", &page, &callable))
        return NULL;
    if (page != Py_None && !mark) {
        if (PyObject_GetBuffer(page, &view, PyBUF_SIMPLE) < 0)
            return NULL;
        if (view.len < (Py_ssize_t)sizeof *mark) {
            PyBuffer_Release(&view);
            PyErr_SetString(PyExc_ValueError, "a page is wanted");
            return NULL;
        }
        mark = view.buf;
    }
    Py_INCREF(callable);
    Py_XSETREF(notice, callable);
    Py_RETURN_NONE;
}

/* Ids are random bits of the kernel's, fetched a few hundred bytes at a time, and again in each child. */

static uint64_t drawn[32];
static size_t left_drawn;
static uint64_t drawn_by;

PyDoc_STRVAR(random_bits_doc, "random_bits(count)\n\nSo many random bits, at most 64, as an int; no two processes draw "
                              "the same.");

static PyObject *
random_bits(PyObject *Py_UNUSED(module), PyObject *count)
{
    long wanted = PyLong_AsLong(count);
    if (wanted < 1 || wanted > 64) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "1 to 64 bits are drawn");
        return NULL;
    }
    if (generation() != drawn_by || !left_drawn) {
        if (generation() != drawn_by && notice) {
            PyObject *noticed = PyObject_CallNoArgs(notice);
            if (!noticed)
                return NULL;
            Py_DECREF(noticed);
        }
        if (getentropy(drawn, sizeof drawn) < 0)
            return PyErr_SetFromErrno(PyExc_OSError);
        left_drawn = sizeof drawn / sizeof *drawn;
        drawn_by = generation();
    }
    return PyLong_FromUnsignedLongLong(drawn[--left_drawn] >> (64 - wanted));
}

/* Files. Each is opened, looked at and closed in one call, so that no descriptor is kept that the host may close, or
   lost to an exception, and 0 to 2, which the host may have closed and which somebody else writes to, are left alone. */

static int
open_above(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0 || fd > 2)
        return fd;
    int above = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int error = errno;
    close(fd);
    errno = error;
    return above;
}

/* 0, or what went wrong. Signals wait meanwhile: each would make the kernel begin anew. */
static int
reserve(int fd, off_t size)
{
#ifdef __APPLE__
    static const char zeros[65536];
    for (off_t at = 0; at < size; at += (off_t)sizeof zeros)
        if (pwrite(fd, zeros, size - at < (off_t)sizeof zeros ? (size_t)(size - at) : sizeof zeros, at) < 0)
            return errno;
    return 0;
#else
    sigset_t all, before;
    int error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    do
        error = posix_fallocate(fd, 0, size);
    while (error == EINTR);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
#endif
}

PyDoc_STRVAR(shorten_doc, "shorten(path, device, inode, size)\n\nCut a file, unless another one has its name.");

static PyObject *
shorten(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *path;
    unsigned long long device, inode, size;
    if (!PyArg_ParseTuple(args, "O&KKK:shorten", PyUnicode_FSConverter, &path, &device, &inode, &size))
        return NULL;
    struct stat status;
    int error = 0, fd = open_above(PyBytes_AS_STRING(path), O_WRONLY, 0);
    if (fd < 0 || fstat(fd, &status) < 0 ||
        (status.st_dev == (dev_t)device && status.st_ino == (ino_t)inode && ftruncate(fd, (off_t)size) < 0))
        error = errno;
    if (fd >= 0)
        close(fd);
    if (error) {
        errno = error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, PyBytes_AS_STRING(path));
    }
    Py_DECREF(path);
    if (error)
        return NULL;
    Py_RETURN_NONE;
}

/* A journal's file, mapped, and the place in it where the next record goes. Every method is one step. */

typedef struct {
    PyObject_HEAD
    unsigned char *map; /* NULL: released */
    unsigned long long offset, size, known_scopes, next_look, defined, generation, device, inode;
    unsigned long long records[KINDS];
} Mapped;

static PyMemberDef mapped_members[] = {
    {"offset", T_ULONGLONG, offsetof(Mapped, offset), READONLY, NULL},
    {"size", T_ULONGLONG, offsetof(Mapped, size), READONLY, NULL},
    {"known_scopes", T_ULONGLONG, offsetof(Mapped, known_scopes), 0, NULL},
    {"next_look", T_ULONGLONG, offsetof(Mapped, next_look), 0, NULL},
    {"defined", T_ULONGLONG, offsetof(Mapped, defined), 0, NULL},
    {"generation", T_ULONGLONG, offsetof(Mapped, generation), READONLY, NULL},
    {"device", T_ULONGLONG, offsetof(Mapped, device), READONLY, NULL},
    {"inode", T_ULONGLONG, offsetof(Mapped, inode), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void
store_committed(Mapped *to)
{
    unsigned char little[8];
    uint64_t whole;
    store_little(little, to->offset, 8);
    memcpy(&whole, little, 8);
    __atomic_store_n((uint64_t *)(void *)(to->map + COMMITTED_AT), whole, __ATOMIC_RELEASE);
}

static int
write_record(Mapped *to, unsigned kind, uint64_t ref, const void *body, size_t length)
{
    size_t size = FRAME_SIZE + length;
    if (!to->map || kind >= KINDS || ref > 0xFFFF || length > LARGEST_RECORD - FRAME_SIZE || to->offset > to->size ||
        size > to->size - to->offset || to->generation != generation())
        return 0;
    unsigned char *frame = to->map + to->offset;
    store_little(frame, length, 4);
    store_little(frame + 4, crc32_of(body, length, (uint32_t)(kind | ref << 8)), 4);
    frame[8] = (unsigned char)kind;
    frame[9] = 0;
    store_little(frame + 10, ref, 2);
    memcpy(frame + FRAME_SIZE, body, length);
    to->offset += size;
    store_committed(to);
    to->records[kind]++;
    return 1;
}

static int
is_open(Mapped *to, uint64_t ref)
{
    return to && ref < to->known_scopes && to->map;
}

static int
append_record(Mapped *to, unsigned kind, uint64_t ref, const void *body, size_t length)
{
    return is_open(to, ref) && read_clock(COARSE) < to->next_look && write_record(to, kind, ref, body, length);
}

static int
as_u64(PyObject *number, uint64_t *to)
{
    if (!PyLong_CheckExact(number))
        return 0;
    *to = PyLong_AsUnsignedLongLong(number);
    if (*to == (uint64_t)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static int
takes(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%zd arguments wanted, %zd given", wanted, given);
    return 0;
}

static int
as_record(PyObject *const *items, unsigned *kind, uint64_t *ref)
{
    uint64_t number;
    if (!as_u64(items[0], &number) || number >= KINDS || !as_u64(items[1], ref) || !PyBytes_CheckExact(items[2]))
        return 0;
    *kind = (unsigned)number;
    return 1;
}

PyDoc_STRVAR(mapped_append_doc, "append(kind, ref, body)\n\nAppend a record, the short way: False where its scope is "
                                "not known here, a look at the file is due, or it does not fit.");

static PyObject *
mapped_append(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    unsigned kind;
    uint64_t ref;
    if (!takes(given, 3))
        return NULL;
    return PyBool_FromLong(as_record(args, &kind, &ref) &&
                           append_record((Mapped *)self, kind, ref, PyBytes_AS_STRING(args[2]),
                                         (size_t)PyBytes_GET_SIZE(args[2])));
}

PyDoc_STRVAR(mapped_define_doc, "define(kind, ref, body)\n\nAppend a definition; False where it does not fit.");

static PyObject *
mapped_define(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    unsigned kind;
    uint64_t ref;
    if (!takes(given, 3))
        return NULL;
    Mapped *to = (Mapped *)self;
    int is_done = as_record(args, &kind, &ref) &&
                  write_record(to, kind, ref, PyBytes_AS_STRING(args[2]), (size_t)PyBytes_GET_SIZE(args[2]));
    to->defined += (unsigned)is_done;
    return PyBool_FromLong(is_done);
}

PyDoc_STRVAR(mapped_take_doc, "take(records)\n\nMove the first of a list of (kind, ref, body) into the file; False "
                              "where it does not fit.");

static PyObject *
mapped_take(PyObject *self, PyObject *records)
{
    unsigned kind;
    uint64_t ref;
    if (!PyList_CheckExact(records) || !PyList_GET_SIZE(records))
        Py_RETURN_FALSE;
    PyObject *first = PyList_GET_ITEM(records, 0);
    if (!PyTuple_CheckExact(first) || PyTuple_GET_SIZE(first) != 3 ||
        !as_record(&PyTuple_GET_ITEM(first, 0), &kind, &ref))
        Py_RETURN_FALSE;
    PyObject *body = PyTuple_GET_ITEM(first, 2);
    if (!write_record((Mapped *)self, kind, ref, PyBytes_AS_STRING(body), (size_t)PyBytes_GET_SIZE(body)))
        Py_RETURN_FALSE;
    if (PyList_SetSlice(records, 0, 1, NULL) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(mapped_holds_doc, "holds(kind, ref, body)\n\nWhether such a record stands in the file.");

static PyObject *
mapped_holds(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    unsigned kind;
    uint64_t ref;
    if (!takes(given, 3))
        return NULL;
    Mapped *in = (Mapped *)self;
    if (!as_record(args, &kind, &ref) || !in->map)
        Py_RETURN_FALSE;
    const unsigned char *body = (const unsigned char *)PyBytes_AS_STRING(args[2]);
    size_t length = (size_t)PyBytes_GET_SIZE(args[2]);
    for (uint64_t at = HEADER_SIZE; at + FRAME_SIZE <= in->offset;) {
        const unsigned char *frame = in->map + at;
        uint64_t here = frame[0] | (uint64_t)frame[1] << 8 | (uint64_t)frame[2] << 16 | (uint64_t)frame[3] << 24;
        if (here > in->offset - at - FRAME_SIZE)
            break; /* somebody has damaged it */
        if (here == length && frame[8] == kind && (frame[10] | (uint64_t)frame[11] << 8) == ref &&
            memcmp(frame + FRAME_SIZE, body, length) == 0)
            Py_RETURN_TRUE;
        at += FRAME_SIZE + here;
    }
    Py_RETURN_FALSE;
}

PyDoc_STRVAR(mapped_store_doc, "store(at, number)\n\nPut a number into the header.");

static PyObject *
mapped_store(PyObject *self, PyObject *args)
{
    unsigned long long at, number;
    if (!PyArg_ParseTuple(args, "KK:store", &at, &number))
        return NULL;
    Mapped *to = (Mapped *)self;
    if (to->map && at >= FIXED_SIZE && at <= HEADER_SIZE - 8 && to->generation == generation())
        store_little(to->map + at, number, 8);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mapped_continue_doc, "continue_from(other)\n\nHold all that another file holds, and go on from there.");

static PyObject *
mapped_continue(PyObject *self, PyObject *other)
{
    Mapped *to = (Mapped *)self, *from = (Mapped *)other;
    if (!PyObject_TypeCheck(other, Py_TYPE(self)) || !from->map || !to->map || from->offset > to->size) {
        PyErr_SetString(PyExc_ValueError, "nothing to go on from");
        return NULL;
    }
    memcpy(to->map + HEADER_SIZE, from->map + HEADER_SIZE, from->offset - HEADER_SIZE);
    memcpy(to->map + FIXED_SIZE, from->map + FIXED_SIZE, COMMITTED_AT - FIXED_SIZE);
    memcpy(to->map + COMMITTED_AT + 8, from->map + COMMITTED_AT + 8, HEADER_SIZE - COMMITTED_AT - 8);
    memcpy(to->records, from->records, sizeof to->records);
    to->defined = from->defined;
    to->offset = from->offset;
    store_committed(to);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mapped_recorded_doc, "recorded(kind)\n\nHow many records of a kind were put into the file.");

static PyObject *
mapped_recorded(PyObject *self, PyObject *kind)
{
    uint64_t number;
    if (!as_u64(kind, &number) || number >= KINDS)
        return PyLong_FromLong(0);
    return PyLong_FromUnsignedLongLong(((Mapped *)self)->records[number]);
}

static void
unmap(Mapped *file)
{
    if (file->map)
        munmap(file->map, file->size);
    file->map = NULL;
}

PyDoc_STRVAR(mapped_release_doc, "release()\n\nUnmap the file; nothing is written any more.");

static PyObject *
mapped_release(PyObject *self, PyObject *Py_UNUSED(none))
{
    unmap((Mapped *)self);
    Py_RETURN_NONE;
}

/* 0, or what went wrong; then nothing is left behind. Until the header is there the file is read-only: so readers know
   one whose process was killed meanwhile from one that somebody has emptied. */
static int
map_new_file(Mapped *to, const char *path, const Py_buffer *header)
{
    struct stat status;
    int fd = open_above(path, O_RDWR | O_CREAT | O_EXCL, 0400);
    if (fd < 0)
        return errno;
    int error = reserve(fd, (off_t)to->size);
    if (!error && fstat(fd, &status) < 0)
        error = errno;
    void *map = MAP_FAILED;
    if (!error) {
        map = mmap(NULL, to->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        error = map == MAP_FAILED ? errno : 0;
    }
    if (!error) {
        to->device = status.st_dev;
        to->inode = status.st_ino;
        to->offset = HEADER_SIZE;
        to->map = map;
        memcpy(to->map, header->buf, (size_t)header->len);
        store_committed(to);
        (void)fchmod(fd, 0600);
    }
    close(fd);
    if (error)
        unlink(path);
    return error;
}

PyDoc_STRVAR(mapped_doc, "Mapped(path, size, header, generation)\n\nA new file of so many bytes, reserved and mapped: "
                         "a hole would turn a full disk into SIGBUS. `header` is its fixed part. Raises OSError.");

static int
mapped_init(PyObject *self, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *path;
    Py_buffer header;
    unsigned long long size, by;
    Mapped *to = (Mapped *)self;
    if (!PyArg_ParseTuple(args, "O&Ky*K:Mapped", PyUnicode_FSConverter, &path, &size, &header, &by))
        return -1;
    int error = EINVAL;
    if (!to->map && header.len <= FIXED_SIZE && size >= HEADER_SIZE && size <= 1u << 30) {
        to->size = size;
        to->generation = by;
        error = ESTALE; /* a fork came between: it is the parent's file */
        if (by == generation()) {
            Py_BEGIN_ALLOW_THREADS
            error = map_new_file(to, PyBytes_AS_STRING(path), &header);
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&header);
    if (error) {
        errno = error;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, PyBytes_AS_STRING(path));
    }
    Py_DECREF(path);
    return error ? -1 : 0;
}

static void
mapped_dealloc(PyObject *self)
{
    unmap((Mapped *)self);
    Py_TYPE(self)->tp_free(self);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef mapped_methods[] = {
    {"append", FAST(mapped_append), METH_FASTCALL, mapped_append_doc},
    {"define", FAST(mapped_define), METH_FASTCALL, mapped_define_doc},
    {"take", mapped_take, METH_O, mapped_take_doc},
    {"holds", FAST(mapped_holds), METH_FASTCALL, mapped_holds_doc},
    {"store", mapped_store, METH_VARARGS, mapped_store_doc},
    {"continue_from", mapped_continue, METH_O, mapped_continue_doc},
    {"recorded", mapped_recorded, METH_O, mapped_recorded_doc},
    {"release", mapped_release, METH_NOARGS, mapped_release_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject mapped_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "otelsync.journal._native.Mapped",
    .tp_basicsize = sizeof(Mapped),
    .tp_dealloc = mapped_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = mapped_doc,
    .tp_members = mapped_members,
    .tp_methods = mapped_methods,
    .tp_init = mapped_init,
    .tp_new = PyType_GenericNew,
};

/* The journal's place: the file that it writes, and None where there is none. Journal inherits from it. */

typedef struct {
    PyObject_HEAD
    PyObject *segment;
} Place;

static PyMemberDef place_members[] = {
    {"segment", T_OBJECT, offsetof(Place, segment), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void
place_dealloc(PyObject *self)
{
    Py_CLEAR(((Place *)self)->segment);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject place_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "otelsync.journal._native.Place",
    .tp_basicsize = sizeof(Place),
    .tp_dealloc = place_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "Where a journal's next record goes.",
    .tp_members = place_members,
    .tp_new = PyType_GenericNew,
};

static Mapped *
file_of(PyObject *journal)
{
    if (!PyObject_TypeCheck(journal, &place_type))
        return NULL;
    PyObject *segment = ((Place *)journal)->segment;
    return segment && PyObject_TypeCheck(segment, &mapped_type) ? (Mapped *)segment : NULL;
}

/* Put tag and length before a finished body, and all of it into the file. */
static int
append(Mapped *to, unsigned kind, uint64_t ref, unsigned char *body, const unsigned char *end)
{
    unsigned char head[HEAD_MOST] = {0x12};
    Out out = {head + 1, head + sizeof head, 0};
    put_varint(&out, (uint64_t)(end - body));
    size_t head_size = (size_t)(out.at - head);
    body -= head_size; /* both callers leave HEAD_MOST bytes free before the body */
    memcpy(body, head, head_size);
    return append_record(to, kind, ref, body, (size_t)(end - body));
}

PyDoc_STRVAR(append_span_doc,
             "append_span(journal, known, is_guarded, kind, ref, head, span_id, name, start, end, scope_bytes, "
             "scope_keys, attributes)\n\nEncode a span and append it; False if it was declined, with nothing written.");

static PyObject *
append_span(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (!takes(given, 13))
        return NULL;
    uint64_t kind, ref, start, end;
    Mapped *to = file_of(args[0]);
    if (!to || !as_u64(args[3], &kind) || !as_u64(args[4], &ref) || !as_u64(args[8], &start) ||
        !as_u64(args[9], &end) || kind > 7 || !is_open(to, ref))
        Py_RETURN_FALSE;
    unsigned char room[RECORD_MOST];
    Out out = {room + HEAD_MOST, room + sizeof room, 0};
    put_bytes(&out, args[5]);
    put(&out, "\x12\x08", 2);
    put_bytes(&out, args[6]);
    put_bytes(&out, args[7]);
    put_fixed64(&out, 0x39, start);
    put_fixed64(&out, 0x41, end);
    put_bytes(&out, args[10]);
    if (!put_attributes(&out, 0x4A, args[12], args[1], args[11], args[2] != Py_False) || out.full)
        Py_RETURN_FALSE;
    return PyBool_FromLong(append(to, (unsigned)kind, ref, room + HEAD_MOST, out.at));
}

static void
put_timestamp(Out *out, uint64_t now)
{
    struct tm parts;
    time_t second = (time_t)(now / 1000000000u);
    char text[64];
    if (!gmtime_r(&second, &parts)) {
        out->full = 1;
        return;
    }
    int year = parts.tm_year + 1900;
    memcpy(text, "{\"timestamp\":\"0000-00-00T00:00:00.000000", 41);
    const int numbers[] = {parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
    for (int i = 0, n = year; i < 4; i++, n /= 10)
        text[17 - i] = (char)('0' + n % 10);
    text[19] = (char)('0' + (parts.tm_mon + 1) / 10);
    text[20] = (char)('0' + (parts.tm_mon + 1) % 10);
    for (int i = 0; i < 4; i++) {
        text[22 + 3 * i] = (char)('0' + numbers[i] / 10);
        text[23 + 3 * i] = (char)('0' + numbers[i] % 10);
    }
    uint64_t microseconds = now / 1000 % 1000000;
    for (int i = 0; i < 6; i++, microseconds /= 10)
        text[39 - i] = (char)('0' + microseconds % 10);
    put(out, text, 40);
}

static void
put_hex(Out *out, PyObject *bytes)
{
    static const char digits[] = "0123456789abcdef";
    for (Py_ssize_t i = 0; PyBytes_CheckExact(bytes) && i < PyBytes_GET_SIZE(bytes); i++) {
        unsigned char byte = (unsigned char)PyBytes_AS_STRING(bytes)[i];
        put_byte(out, (unsigned char)digits[byte >> 4]);
        put_byte(out, (unsigned char)digits[byte & 15]);
    }
}

PyDoc_STRVAR(write_log_doc,
             "write_log(journal, known, is_guarded, ref, fd, now, head_json, head_otlp, trace_hex, trace_fields, "
             "span_id, scope_json, scope_fields, scope_names, fields, rendered)\n\n"
             "Append a log record to the journal, unless that is None, and write its line, unless the descriptor is "
             "None. False: declined, with nothing written; True: done; bytes: what the descriptor did not take of the "
             "line.");

static PyObject *
write_log(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (!takes(given, 16))
        return NULL;
    uint64_t ref, fd = 0, now;
    PyObject *span_id = args[10], *scope_json = args[11], *fields = args[14], *rendered = args[15];
    int is_shown = args[4] != Py_None;
    if (!as_u64(args[3], &ref) || (is_shown && !as_u64(args[4], &fd)) || !as_u64(args[5], &now) || fd > INT_MAX)
        Py_RETURN_FALSE;
    Mapped *to = args[0] == Py_None ? NULL : file_of(args[0]);
    if (args[0] != Py_None && !is_open(to, ref))
        Py_RETURN_FALSE;
    if (is_shown && (!PyBytes_CheckExact(scope_json) || !PyBytes_CheckExact(rendered) ||
                     PyBytes_GET_SIZE(scope_json) < 1 || PyBytes_GET_SIZE(rendered) < 3))
        Py_RETURN_FALSE;

    unsigned char room[RECORD_MOST], line[LINE_MOST];
    Out out = {room + HEAD_MOST, room + sizeof room, 0}, text = {line, line + sizeof line, 0};
    put_fixed64(&out, 0x09, now);
    put_fixed64(&out, 0x59, now);
    put_bytes(&out, args[7]);
    put_bytes(&out, args[9]);
    put_bytes(&out, span_id);
    put_bytes(&out, args[12]);
    if (!put_attributes(&out, 0x32, fields, args[1], args[13], args[2] != Py_False))
        Py_RETURN_FALSE;
    if (!is_shown)
        return PyBool_FromLong(!out.full && (!to || append(to, LOG, ref, room + HEAD_MOST, out.at)));

    put_timestamp(&text, now);
    put_bytes(&text, args[6]);
    put_bytes(&text, args[8]);
    put(&text, "\",\"span_id\":\"", 13);
    put_hex(&text, span_id);
    int is_bare = PyDict_GET_SIZE(fields) == 0; /* then the scope's last comma is one too many */
    put(&text, PyBytes_AS_STRING(scope_json), (size_t)(PyBytes_GET_SIZE(scope_json) - is_bare));
    put(&text, PyBytes_AS_STRING(rendered) + 1, (size_t)(PyBytes_GET_SIZE(rendered) - 1));
    if (out.full || text.full || (to && !append(to, LOG, ref, room + HEAD_MOST, out.at)))
        Py_RETURN_FALSE;

    size_t size = (size_t)(text.at - line);
    ssize_t written;
    Py_BEGIN_ALLOW_THREADS
    written = write((int)fd, line, size);
    Py_END_ALLOW_THREADS
    if (written == (ssize_t)size)
        Py_RETURN_TRUE;
    size_t done = written > 0 ? (size_t)written : 0; /* an error comes again, and is dealt with there */
    return PyBytes_FromStringAndSize((char *)line + done, (Py_ssize_t)(size - done));
}

PyDoc_STRVAR(present_doc, "present(offset, earliest)\n\nThe monotonic clock plus `offset`, and never before `earliest`; "
                          "nanoseconds since the epoch.");

static PyObject *
present(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (!takes(given, 2))
        return NULL;
    int64_t offset = PyLong_AsLongLong(args[0]);
    if (offset == -1 && PyErr_Occurred())
        return NULL;
    uint64_t earliest = PyLong_AsUnsignedLongLong(args[1]);
    if (earliest == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    int64_t now = (int64_t)read_clock(STEADY) + offset;
    return PyLong_FromUnsignedLongLong(now > 0 && (uint64_t)now > earliest ? (uint64_t)now : earliest);
}

PyDoc_STRVAR(plain_copy_doc, "plain_copy(attributes)\n\nA copy, if it is a dict of str, not empty, to str, int, float "
                             "and bool alone; else None.");

static PyObject *
plain_copy(PyObject *Py_UNUSED(module), PyObject *attributes)
{
    PyObject *name, *value;
    Py_ssize_t position = 0;
    if (!PyDict_CheckExact(attributes))
        Py_RETURN_NONE;
    while (PyDict_Next(attributes, &position, &name, &value))
        if (!PyUnicode_CheckExact(name) || !PyUnicode_GET_LENGTH(name) ||
            !(PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
              PyBool_Check(value)))
            Py_RETURN_NONE;
    return PyDict_Copy(attributes);
}

PyDoc_STRVAR(is_little_doc,
             "is_little(fields)\n\nWhether a dict holds plain values alone, and no more than 8,192 characters: names of at "
             "most 256, and text; every field counts for 8 more.");

static PyObject *
is_little(PyObject *Py_UNUSED(module), PyObject *fields)
{
    PyObject *name, *value;
    Py_ssize_t position = 0, left = RECORD_MOST;
    if (!PyDict_CheckExact(fields))
        Py_RETURN_FALSE;
    while (PyDict_Next(fields, &position, &name, &value)) {
        if (!PyUnicode_CheckExact(name) || PyUnicode_GET_LENGTH(name) > LONGEST_NAME)
            Py_RETURN_FALSE;
        left -= PyUnicode_GET_LENGTH(name) + 8;
        if (PyUnicode_CheckExact(value))
            left -= PyUnicode_GET_LENGTH(value);
        else if (PyLong_CheckExact(value)) {
            int overflow;
            (void)PyLong_AsLongLongAndOverflow(value, &overflow);
            if (overflow)
                Py_RETURN_FALSE;
        }
        else if (!PyBool_Check(value) && !PyFloat_CheckExact(value) && value != Py_None)
            Py_RETURN_FALSE;
        if (left < 0)
            Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(clears_doc, "clears(text)\n\nWhether a string surely holds no secret that redaction.py knows.");

static PyObject *
clears(PyObject *Py_UNUSED(module), PyObject *text)
{
    Py_ssize_t size;
    if (!PyUnicode_Check(text))
        Py_RETURN_FALSE;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (!bytes)
        PyErr_Clear(); /* half a surrogate pair */
    return PyBool_FromLong(bytes && is_clear(bytes, (size_t)size, (size_t)PyUnicode_GET_LENGTH(text)));
}

PyDoc_STRVAR(crc32_doc, "crc32(data, seed)\n\nThe same as zlib.crc32().");

static PyObject *
crc32(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data;
    unsigned int seed;
    if (!PyArg_ParseTuple(args, "y*I:crc32", &data, &seed))
        return NULL;
    uint32_t crc = crc32_of(data.buf, (size_t)data.len, seed);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc);
}

/* Items, as the shipper counts them: read from the bytes of a span, field by field, whatever their order. */

typedef struct {
    const uint8_t *at, *end;
} Bytes;

static bool
take_varint(Bytes *from, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The next field: its number and wire type as one, and its bytes, or its value if it is a varint. */
static bool
take_field(Bytes *from, uint64_t *tag, Bytes *held, uint64_t *value)
{
    uint64_t length;
    if (!take_varint(from, tag))
        return false;
    switch (*tag & 7) {
    case 0:
        return take_varint(from, value);
    case 1:
        length = 8;
        break;
    case 2:
        if (!take_varint(from, &length))
            return false;
        break;
    case 5:
        length = 4;
        break;
    default:
        return false;
    }
    if (length > (uint64_t)(from->end - from->at))
        return false;
    held->at = from->at;
    held->end = from->at += length;
    return true;
}

static inline bool
is_text(const Bytes *held, const char *text, size_t length)
{
    return (size_t)(held->end - held->at) == length && memcmp(held->at, text, length) == 0;
}

#define IS(held, text) is_text(&(held), text, sizeof(text) - 1)

/* What an attribute says of an item: the text of its action goes to `action`; false where more is said than that. */
static bool
read_attribute(Bytes pair, Bytes *action)
{
    uint64_t tag, value;
    Bytes held, key = {NULL, NULL}, text = {NULL, NULL};
    while (pair.at < pair.end) {
        if (!take_field(&pair, &tag, &held, &value))
            return false;
        if (tag == 0x0A)
            key = held;
        else if (tag == 0x12)
            text = held;
    }
    if (key.end - key.at < 11 || memcmp(key.at, "sync.", 5) != 0)
        return true;
    if (IS(key, "sync.outcome"))
        return take_field(&text, &tag, &held, &value) && tag == 0x0A && text.at == text.end && IS(held, "success");
    if (IS(key, "sync.attempt") || IS(key, "sync.recovered") || IS(key, "sync.required"))
        return false;
    if (!IS(key, "sync.action"))
        return true;
    if (!take_field(&text, &tag, &held, &value) || tag != 0x0A || text.at != text.end || IS(held, "failed"))
        return false;
    *action = held;
    return true;
}

PyDoc_STRVAR(item_of_doc,
"item_of(body) -> bytes | bool | None\n\n"
"Read a span as the journal holds it. Bytes: it is an item that went well; the parent's id, the name, a zero byte and\n"
"the action. False: it is of somebody else, and nothing comes later below it. None: it is to be read in full.");

static PyObject *
item_of(PyObject *Py_UNUSED(module), PyObject *body)
{
    uint64_t tag, value, kind = 0;
    Bytes held, span, parent = {NULL, NULL}, name = {NULL, NULL}, action = {NULL, NULL};
    bool is_plain = true;
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(body, &bytes, &length) < 0)
        return NULL;
    Bytes whole = {(const uint8_t *)bytes, (const uint8_t *)bytes + length};
    if (!take_field(&whole, &tag, &span, &value) || tag != 0x12)
        Py_RETURN_NONE;
    while (span.at < span.end) {
        if (!take_field(&span, &tag, &held, &value))
            Py_RETURN_NONE;
        switch (tag) {
        case 0x22:
            parent = held;
            break;
        case 0x2A:
            name = held;
            break;
        case 0x30:
            kind = value;
            break;
        case 0x4A:
            is_plain = is_plain && read_attribute(held, &action);
            break;
        case 0x7A:
            is_plain = is_plain && held.at == held.end;
            break;
        }
    }
    size_t named = name.end - name.at;
    if (named < 6 || memcmp(name.at, "sync.", 5) != 0) {
        if (kind >= 1 && kind <= 3)
            Py_RETURN_FALSE;
        Py_RETURN_NONE;
    }
    if (!is_plain || kind != 1 || parent.end - parent.at != 8 || memchr(name.at, ' ', named) ||
        memchr(name.at + 5, '.', named - 5))
        Py_RETURN_NONE;
    size_t said = action.end - action.at;
    PyObject *found = PyBytes_FromStringAndSize(NULL, 8 + named + 1 + said);
    if (found == NULL)
        return NULL;
    char *into = PyBytes_AS_STRING(found);
    memcpy(into, parent.at, 8);
    memcpy(into + 8, name.at, named);
    into[8 + named] = 0;
    if (said)
        memcpy(into + 9 + named, action.at, said);
    return found;
}

/* A method and what is called where an exception comes out of it, also before its first line: there the interpreter looks
   for signals, and no `try` of the method is in force yet. Nothing comes between the two. */

typedef struct {
    PyObject_HEAD
    PyObject *function, *despite;
    vectorcallfunc call;
} Guarded;

enum { MOST_GIVEN = 4 };

static PyObject *
guarded_call(PyObject *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Guarded *guarded = (Guarded *)self;
    PyObject *result = PyObject_Vectorcall(guarded->function, args, flags, names);
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (result || names || count < 1 || count > MOST_GIVEN)
        return result;
    PyObject *type, *error, *traceback, *given[MOST_GIVEN + 1] = {args[0]};
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    given[1] = error;
    for (Py_ssize_t n = 1; n < count; n++)
        given[n + 1] = args[n];
    result = PyObject_Vectorcall(guarded->despite, given, (size_t)count + 1, NULL);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return result;
}

static PyObject *
guarded_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    PyObject *function, *despite;
    if (!PyArg_ParseTuple(args, "OO:Guarded", &function, &despite))
        return NULL;
    Guarded *guarded = (Guarded *)type->tp_alloc(type, 0);
    if (guarded) {
        guarded->function = Py_NewRef(function);
        guarded->despite = Py_NewRef(despite);
        guarded->call = guarded_call;
    }
    return (PyObject *)guarded;
}

static void
guarded_dealloc(PyObject *self)
{
    Py_CLEAR(((Guarded *)self)->function);
    Py_CLEAR(((Guarded *)self)->despite);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *
guarded_bind(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object ? PyMethod_New(self, object) : Py_NewRef(self);
}

static PyObject *
guarded_attribute(PyObject *self, PyObject *name)
{
    PyObject *found = PyObject_GenericGetAttr(self, name);
    if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return found;
    PyErr_Clear();
    return PyObject_GetAttr(((Guarded *)self)->function, name);
}

static PyMemberDef guarded_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Guarded, function), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject guarded_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "otelsync.journal._native.Guarded",
    .tp_basicsize = sizeof(Guarded),
    .tp_dealloc = guarded_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_doc = "Guarded(function, despite)\n\nA method. What it raises goes to `despite`, behind the object.",
    .tp_members = guarded_members,
    .tp_vectorcall_offset = offsetof(Guarded, call),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = guarded_bind,
    .tp_getattro = guarded_attribute,
    .tp_new = guarded_new,
};

static PyMethodDef functions[] = {
    {"append_span", FAST(append_span), METH_FASTCALL, append_span_doc},
    {"write_log", FAST(write_log), METH_FASTCALL, write_log_doc},
    {"present", FAST(present), METH_FASTCALL, present_doc},
    {"plain_copy", plain_copy, METH_O, plain_copy_doc},
    {"clears", clears, METH_O, clears_doc},
    {"is_little", is_little, METH_O, is_little_doc},
    {"item_of", item_of, METH_O, item_of_doc},
    {"crc32", crc32, METH_VARARGS, crc32_doc},
    {"random_bits", random_bits, METH_O, random_bits_doc},
    {"shorten", shorten, METH_VARARGS, shorten_doc},
    {"watch_forks", watch_forks, METH_VARARGS, watch_forks_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "otelsync.journal._native",
    .m_doc = "The short way of a span and of a log record into the journal, in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    crc_prepare();
    for (size_t n = SUSPICIOUS; n-- > 0;)
        begins[(unsigned char)suspicious[n].word[0]] = (unsigned char)(n + 1);
    PyObject *module = PyModule_Create(&definition);
    if (module && (PyModule_AddType(module, &place_type) < 0 || PyModule_AddType(module, &mapped_type) < 0 ||
                   PyModule_AddType(module, &guarded_type) < 0))
        Py_CLEAR(module);
    return module;
}
