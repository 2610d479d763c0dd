package cluster

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress tells a person what has been done and how many seconds each step took.
type Progress struct {
	Out     io.Writer
	Cluster string

	mutex sync.Mutex
	began time.Time
}

// Begin starts the clock.
func (p *Progress) Begin() { p.began = time.Now() }

// Step starts a step and returns what ends it.
func (p *Progress) Step() (done func(format string, arguments ...any)) {
	began := time.Now()
	return func(format string, arguments ...any) { p.line(time.Since(began), format, arguments...) }
}

// End tells how long everything took.
func (p *Progress) End(format string, arguments ...any) {
	p.line(time.Since(p.began), format, arguments...)
}

func (p *Progress) line(took time.Duration, format string, arguments ...any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	fmt.Fprintf(p.Out, "%s %6.1fs  %s\n", p.Cluster, took.Seconds(), fmt.Sprintf(format, arguments...))
}
