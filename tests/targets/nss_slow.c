/* libnss_slow.so.2: a directory service that can be away (SLOW_DOWN: while that file is there), and hangs then. */
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum nss_status _nss_slow_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, int *error)
{
    int waited;
    for (waited = 0; access(getenv("SLOW_DOWN"), F_OK) == 0 && waited < 1500; waited++)
        usleep(10000);
    if (waited) {
        *error = EAGAIN;
        return NSS_STATUS_UNAVAIL;
    }
    if (uid < 4000 || uid > 4999 || size < 16)
        return NSS_STATUS_NOTFOUND;
    memset(entry, 0, sizeof *entry);
    strcpy(buffer, "shopuser");
    entry->pw_name = entry->pw_passwd = entry->pw_gecos = entry->pw_dir = entry->pw_shell = buffer;
    entry->pw_uid = entry->pw_gid = uid;
    return NSS_STATUS_SUCCESS;
}
