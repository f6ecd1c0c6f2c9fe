// Package queue runs jobs in a fixed number of goroutines and tries failed ones again.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"
)

// ErrClosed is returned when a job is put into a queue that has been closed.
var ErrClosed = errors.New("queue: closed")

// Job is a piece of work with a name for the log.
type Job struct {
	Name     string
	Run      func(ctx context.Context) error
	attempts int
}

// Queue hands jobs to its workers.
type Queue struct {
	jobs    chan Job
	retries int
	wait    time.Duration
	mu      sync.Mutex
	closed  bool
	group   sync.WaitGroup
}

// New starts a queue with some workers.
func New(ctx context.Context, workers, retries int, wait time.Duration) *Queue {
	q := &Queue{jobs: make(chan Job, 64), retries: retries, wait: wait}
	for i := 0; i < workers; i++ {
		q.group.Add(1)
		go q.work(ctx, i)
	}
	return q
}

// Put adds a job; it blocks while the queue is full.
func (q *Queue) Put(job Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.jobs <- job
	return nil
}

// Close waits for all jobs that are in the queue.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.jobs)
	}
	q.mu.Unlock()
	q.group.Wait()
}

func (q *Queue) work(ctx context.Context, number int) {
	defer q.group.Done()
	for job := range q.jobs {
		if err := q.try(ctx, job); err != nil {
			log.Printf("worker %d: %s: %v", number, job.Name, err)
		}
	}
}

func (q *Queue) try(ctx context.Context, job Job) error {
	var err error
	for job.attempts = 0; job.attempts <= q.retries; job.attempts++ {
		if err = job.Run(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(q.wait << job.attempts):
		}
	}
	return fmt.Errorf("gave up after %d attempts: %w", job.attempts, err)
}
