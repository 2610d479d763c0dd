// Package image builds the images that cannot be pulled where there is no registry: from Debian's packages, with
// buildah, into archives that `cluster load-image` takes.
//
// This file says what the images are; build.go makes them.
package image

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"valerix.io/cluster/internal/config"
)

// Recipe is an image to build: a folder of files under recipes/ and, usually, a set of Debian packages.
type Recipe struct {
	Name      string
	Reference string
	// Include lists Debian packages on top of the smallest system, whose files become root.tar.
	Include []string
	// Hooks are commands that run before (Early) and after (Late) the packages are configured; "$1" is the root.
	Early, Late []string
	// Compile is a C source file of the folder, compiled into a static program of that name without the suffix.
	Compile string
	// Local says that Dockerfiles build on this image, so it is also kept in buildah's own storage.
	Local bool
}

// Recipes lists the images that can be built.
var Recipes = []Recipe{
	{
		Name: "pause", Reference: config.PauseImage,
		Compile: "pause.c",
	},
	{
		Name: "base", Reference: config.BaseImage,
		Include: []string{"ca-certificates"},
		Local:   true,
	},
	{
		Name: "postgres", Reference: "docker.io/library/postgres:15-bookworm",
		Include: []string{"ca-certificates", "postgresql-15"},
		Local:   true, // The image of the backup runner takes PostgreSQL's client programs from it.
		Early: []string{
			// Installing the server makes a database of its own unless told otherwise.
			`mkdir -p "$1/etc/postgresql-common"`,
			`echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf"`,
		},
		Late: []string{
			`chroot "$1" groupmod --gid 999 postgres`,
			`chroot "$1" usermod --uid 999 --gid 999 postgres`,
			`chroot "$1" sh -c 'rm -rf /etc/ssl/private/* /var/lib/postgresql /var/log/postgresql/*'`,
			`chroot "$1" install -d -o postgres -g postgres -m 1777 /var/lib/postgresql /var/lib/postgresql/data`,
			`chroot "$1" install -d -o postgres -g postgres -m 3777 /var/run/postgresql`,
			`mkdir "$1/docker-entrypoint-initdb.d"`,
		},
	},
	{
		Name: "redis", Reference: "docker.io/library/redis:7.0-bookworm",
		Include: []string{"ca-certificates", "redis-server"},
		Late: []string{
			`chroot "$1" groupmod --gid 999 redis`,
			`chroot "$1" usermod --uid 999 --gid 999 redis`,
			`chroot "$1" install -d -o redis -g redis /data`,
		},
	},
	{
		Name: "prometheus", Reference: "docker.io/prom/prometheus:v2.42.0",
		Include: []string{"ca-certificates", "prometheus"},
	},
	// Three languages whose programs know nothing of Valerix, for the tests of what stands beside any image.
	{
		Name: "python", Reference: "docker.io/library/python:3.11-slim-bookworm",
		Include: []string{"ca-certificates", "python3"},
	},
	{
		Name: "node", Reference: "docker.io/library/node:18-bookworm-slim",
		Include: []string{"ca-certificates", "nodejs"},
	},
	{
		Name: "java", Reference: "docker.io/library/eclipse-temurin:17-jdk",
		Include: []string{"ca-certificates", "openjdk-17-jdk-headless"},
		Early: []string{
			// Its programs have alternatives, and those manual pages, for which there must be a folder.
			`mkdir -p "$1/usr/share/man/man1"`,
		},
	},
}

//go:embed recipes
var files embed.FS

// Find returns the recipe of that name.
func Find(name string) (Recipe, error) {
	var names []string
	for _, recipe := range Recipes {
		if recipe.Name == name {
			return recipe, nil
		}
		names = append(names, recipe.Name)
	}
	return Recipe{}, fmt.Errorf("there is no image %q; the images are %s", name, strings.Join(names, ", "))
}

// Archive is the name of the image's archive: it changes whenever anything that goes into the image does, except
// for the versions of Debian's packages, which `--rebuild` fetches anew.
func (r Recipe) Archive() (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %q %+v\n", runtime.GOARCH, r.mmdebstrap(""), r)
	contents, err := r.files()
	if err != nil {
		return "", err
	}
	for _, file := range contents {
		fmt.Fprintf(sum, "%q %q\n", file.name, file.content)
	}
	return fmt.Sprintf("%s-%s.oci.tar", r.Name, hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

type recipeFile struct {
	name    string
	content []byte
}

func (r Recipe) files() ([]recipeFile, error) {
	dir := "recipes/" + r.Name
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, fmt.Errorf("failed to read the recipe of %s: %w", r.Name, err)
	}
	var found []recipeFile
	for _, entry := range entries {
		content, err := fs.ReadFile(files, dir+"/"+entry.Name())
		if err != nil {
			return nil, fmt.Errorf("failed to read the recipe of %s: %w", r.Name, err)
		}
		found = append(found, recipeFile{entry.Name(), content})
	}
	return found, nil
}

// mmdebstrap returns the command that makes root.tar, or nothing for an image without Debian in it.
func (r Recipe) mmdebstrap(target string) []string {
	if len(r.Include) == 0 {
		return nil
	}
	command := []string{
		"mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--include=" + strings.Join(r.Include, ","),
		// What the official slim images leave out.
		`--dpkgopt=path-exclude=/usr/share/man/*`, `--dpkgopt=path-exclude=/usr/share/info/*`,
		`--dpkgopt=path-exclude=/usr/share/locale/*`, `--dpkgopt=path-exclude=/usr/share/doc/*`,
		`--dpkgopt=path-include=/usr/share/doc/*/copyright`,
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Languages "none"`,
	}
	for _, hook := range r.Early {
		command = append(command, "--essential-hook="+hook)
	}
	for _, hook := range r.Late {
		command = append(command, "--customize-hook="+hook)
	}
	if len(r.Late) > 0 {
		command = append(command, "--skip=cleanup/run") // What a hook puts into /run is meant to stay.
	}
	return append(command, "bookworm", filepath.Join(target, "root.tar"))
}

// Programs lists what must be installed to build the image.
func (r Recipe) Programs() []string {
	programs := []string{"buildah"}
	if len(r.Include) > 0 {
		programs = append(programs, "mmdebstrap")
	}
	if r.Compile != "" {
		programs = append(programs, "cc")
	}
	return slices.Sorted(slices.Values(programs))
}
