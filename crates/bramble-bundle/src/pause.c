// What holds a pod's namespaces, as Kubernetes' own pause does.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

int main(int count, char **words) {
    // kubeadm's upgrade asks it for its version, to see that jobs run.
    if (count > 1 && !strcmp(words[1], "-v")) return puts("pause") < 0;
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
