package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"valerix.io/cluster/internal/lock"
	"valerix.io/cluster/internal/mounts"
)

// Cache is the folder of the archives.
type Cache struct {
	Dir string
	// Progress is told, in a few words, what is being done.
	Progress func(string)
}

// Ensure returns the path of the image's archive, building it if it is not in the cache or if asked to.
func (c Cache) Ensure(ctx context.Context, recipe Recipe, rebuild bool) (string, error) {
	name, err := recipe.Archive()
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.Dir, name)
	if !rebuild && c.complete(ctx, recipe, path) {
		return path, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("failed to make the image cache: %w", err)
	}
	// Two clusters that come up together build an image once.
	held, err := lock.Acquire(ctx, filepath.Join(c.Dir, recipe.Name+".lock"), "image")
	if err != nil {
		return "", err
	}
	defer held.Release()
	if !rebuild && c.complete(ctx, recipe, path) {
		return path, nil
	}
	if _, err := os.Stat(path); rebuild || err != nil {
		if err := c.build(ctx, recipe, path); err != nil {
			return "", fmt.Errorf("failed to build the image %s: %w", recipe.Name, err)
		}
	} else if err := c.keepLocally(ctx, recipe, path); err != nil {
		return "", err
	}
	return path, nil
}

// Has says whether the image's archive is in the cache.
func (c Cache) Has(recipe Recipe) bool {
	name, err := recipe.Archive()
	if err == nil {
		_, err = os.Stat(filepath.Join(c.Dir, name))
	}
	return err == nil
}

// complete says whether the archive is there and, where Dockerfiles build on it, buildah knows it too.
func (c Cache) complete(ctx context.Context, recipe Recipe, path string) bool {
	if _, err := os.Stat(path); err != nil {
		return false
	}
	if !recipe.Local {
		return true
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		return true // The archive is enough for the cluster, and nobody can build on the image anyway.
	}
	return exec.CommandContext(ctx, "buildah", "inspect", "--type=image", recipe.Reference).Run() == nil
}

func (c Cache) keepLocally(ctx context.Context, recipe Recipe, path string) error {
	c.Progress("giving buildah the image " + recipe.Name)
	id, err := run(ctx, "", "buildah", "pull", "--quiet", "oci-archive:"+path)
	if err == nil {
		_, err = run(ctx, "", "buildah", "tag", lastLine(id), recipe.Reference)
	}
	return err
}

func (c Cache) build(ctx context.Context, recipe Recipe, path string) error {
	for _, program := range recipe.Programs() {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed; `cluster preflight --install` installs it", program)
		}
	}
	// What an interrupted build left is of no use. The lock is held, so nobody else is building this image.
	temporary := filepath.Join(c.Dir, ".building-"+recipe.Name)
	if err := mounts.RemoveAll(temporary); err != nil {
		return err
	}
	defer mounts.RemoveAll(temporary)
	work := filepath.Join(temporary, "context") // Nested, because buildah leaves a folder beside its context.
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	contents, err := recipe.files()
	if err != nil {
		return err
	}
	for _, file := range contents {
		if err := os.WriteFile(filepath.Join(work, file.name), file.content, 0o644); err != nil {
			return err
		}
	}
	c.Progress("building the image " + recipe.Name)
	if recipe.Compile != "" {
		program := strings.TrimSuffix(recipe.Compile, filepath.Ext(recipe.Compile))
		if _, err := run(ctx, work, "cc", "-static", "-Os", "-s", "-o", program, recipe.Compile); err != nil {
			return err
		}
	}
	if command := recipe.mmdebstrap(work); command != nil {
		if _, err := run(ctx, work, command...); err != nil {
			return err
		}
	}
	// Chroot isolation needs neither a container runtime nor any right beyond root's.
	id, err := run(ctx, work, "buildah", "bud", "--quiet", "--isolation=chroot", "--timestamp=0", "--tag", recipe.Reference, work)
	if err != nil {
		return err
	}
	if !recipe.Local {
		defer run(context.WithoutCancel(ctx), "", "buildah", "rmi", recipe.Reference)
	}
	// A name that appears only when the archive is whole, so that an interrupted build is no build.
	unfinished := filepath.Join(temporary, "image.tar")
	if _, err := run(ctx, "", "buildah", "push", "--quiet", lastLine(id), "oci-archive:"+unfinished+":"+recipe.Reference); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}

// run runs a command and returns its output; its error is what the command wrote last.
func run(ctx context.Context, dir string, command ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	started := exec.CommandContext(ctx, command[0], command[1:]...)
	started.Dir, started.Stdout, started.Stderr = dir, &stdout, &stderr
	// mmdebstrap unpacks below the build's own folder: /tmp may be small or forbid programs.
	started.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=0")
	if dir != "" {
		started.Env = append(started.Env, "TMPDIR="+filepath.Dir(dir))
	}
	// Both programs mount things while they work, and unmount them when they are asked to end.
	started.Cancel = func() error { return started.Process.Signal(syscall.SIGTERM) }
	started.WaitDelay = 15 * time.Second
	if err := started.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command[:min(2, len(command))], " "), err, tail(stderr.String(), 15))
	}
	return stdout.String(), nil
}

func lastLine(text string) string { return tail(strings.TrimSpace(text), 1) }

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
