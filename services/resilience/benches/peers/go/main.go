// The Go peers of `make bench`, each in its cheapest ordinary configuration with the thresholds of our default: open at
// half of at least 20 calls in 30 seconds. It speaks the protocol of benches/measure.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// run does `count` operations.
type run func(count int)

type contender struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Rows    []string `json:"rows"`
	runs    map[string]run
}

func (c *contender) row(name string, run run) {
	c.Rows = append(c.Rows, name)
	c.runs[name] = run
}

func newContender(module string) *contender {
	parts := strings.Split(strings.TrimSuffix(module, "/v2"), "/")
	name := parts[len(parts)-1]
	if module == "golang.org/x/time" {
		name = "x/time/rate"
	}
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				version = strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return &contender{Name: name, Version: version, runs: map[string]run{}}
}

func repeat(operation func()) run {
	return func(count int) {
		for range count {
			operation()
		}
	}
}

func twice(operation func()) run {
	return func(count int) {
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() { repeat(operation)(count / 2) })
		}
		group.Wait()
	}
}

var errDown = errors.New("down")

func goBreaker() *contender {
	build := func() *gobreaker.CircuitBreaker[int] {
		// A fixed interval; its rolling window (BucketPeriod) costs more.
		return gobreaker.NewCircuitBreaker[int](gobreaker.Settings{
			Interval: 30 * time.Second,
			Timeout:  time.Hour,
			ReadyToTrip: func(counts gobreaker.Counts) bool {
				return counts.Requests >= 20 && counts.TotalFailures*2 >= counts.Requests
			},
		})
	}
	succeed := func() (int, error) { return 1, nil }
	call := func(breaker *gobreaker.CircuitBreaker[int]) func() {
		return func() { _, _ = breaker.Execute(succeed) }
	}
	open := build()
	for range 20 {
		_, _ = open.Execute(func() (int, error) { return 0, errDown })
	}
	if open.State() != gobreaker.StateOpen {
		panic("gobreaker is not open")
	}
	contender := newContender("github.com/sony/gobreaker/v2")
	contender.row("breaker/closed", repeat(call(build())))
	contender.row("breaker/open", repeat(call(open)))
	contender.row("breaker/two threads", twice(call(build())))
	return contender
}

func failsafeGo() *contender {
	build := func() circuitbreaker.CircuitBreaker[any] {
		return circuitbreaker.NewBuilder[any]().
			WithFailureRateThreshold(0.5, 20, 30*time.Second).
			WithDelay(time.Hour).
			Build()
	}
	// Permission and outcome, as our bench does it: cheaper than an executor around a function.
	call := func(breaker circuitbreaker.CircuitBreaker[any]) func() {
		return func() {
			if breaker.TryAcquirePermit() {
				breaker.RecordSuccess()
			}
		}
	}
	open := build()
	open.Open()
	contender := newContender("github.com/failsafe-go/failsafe-go")
	contender.row("breaker/closed", repeat(call(build())))
	contender.row("breaker/open", repeat(call(open)))
	contender.row("breaker/two threads", twice(call(build())))
	return contender
}

func timeRate() *contender {
	build := func() *rate.Limiter { return rate.NewLimiter(1e9, 1_000_000_000) }
	one := build()
	// It has no keys of its own; a sync.Map of limiters is what services write, and what is never cleaned up.
	var many sync.Map
	keys := make([]string, 10_000)
	for number := range keys {
		keys[number] = fmt.Sprintf("10.0.%d.%d", number/250, number%250)
		many.Store(keys[number], build())
	}
	next := 0
	contender := newContender("golang.org/x/time")
	// A token bucket, which admits what GCRA does; it is beside our Window too.
	for _, algorithm := range []string{"GCRA", "Window"} {
		contender.row("limit/"+algorithm, repeat(func() { one.Allow() }))
		contender.row("limit/"+algorithm+", 10,000 keys", repeat(func() {
			limiter, _ := many.Load(keys[next])
			limiter.(*rate.Limiter).Allow()
			if next++; next == len(keys) {
				next = 0
			}
		}))
	}
	return contender
}

// cpu is the CPU time of all threads, the garbage collector's too.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func perOperation(budget time.Duration, run run) float64 {
	taken := func(count int) time.Duration {
		before := cpu()
		run(count)
		return cpu() - before
	}
	count := 64
	once := 0.0
	for {
		if taken := taken(count); taken >= budget/4 {
			once = float64(taken) / float64(count)
			break
		}
		count *= 2
	}
	count = max(1, int(float64(budget)/once))
	return float64(taken(count)) / float64(count)
}

func main() {
	contenders := []*contender{goBreaker(), failsafeGo(), timeRate()}
	output := json.NewEncoder(os.Stdout)
	_ = output.Encode(map[string]any{"contenders": contenders})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var question struct {
			Contender, Row string
			Millis         int
		}
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			panic(err)
		}
		for _, contender := range contenders {
			if run := contender.runs[question.Row]; run != nil && contender.Name == question.Contender {
				budget := time.Duration(question.Millis) * time.Millisecond
				_ = output.Encode(map[string]float64{"value": perOperation(budget, run)})
			}
		}
	}
}
