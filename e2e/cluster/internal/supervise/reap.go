package supervise

import (
	"os"
	"os/signal"
	"syscall"
)

// reap collects every process that ends and tells whoever waits for it. It is the only place that waits for
// processes, because wait4 for any child would take the result away from a wait for one of them.
func (s *Supervisor) reap() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			select {
			case <-signals:
				s.collect()
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(done); <-finished }
}

func (s *Supervisor) collect() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if exited, ours := s.exits[pid]; ours {
			delete(s.exits, pid)
			exited <- status
		}
	}
}
