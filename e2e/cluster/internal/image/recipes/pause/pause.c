/* The first process of a pod: it holds the pod's namespaces open and does nothing else but bury orphans. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void bury(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

int main(void) {
    signal(SIGCHLD, bury);
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    for (;;) {
        pause();
    }
}
