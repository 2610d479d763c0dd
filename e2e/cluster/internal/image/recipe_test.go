package image

import (
	"slices"
	"strings"
	"testing"
)

func TestTheArchiveIsNamedByWhatGoesIn(t *testing.T) {
	base, err := Find("base")
	if err != nil {
		t.Fatal(err)
	}
	name := func(r Recipe) string {
		archive, err := r.Archive()
		if err != nil {
			t.Fatal(err)
		}
		return archive
	}
	first := name(base)
	if first != name(base) {
		t.Error("the same recipe has two names")
	}
	changed := base
	changed.Include = append(slices.Clone(base.Include), "tzdata")
	if name(changed) == first {
		t.Error("another package does not change the name")
	}
	changed = base
	changed.Late = []string{"true"}
	if name(changed) == first {
		t.Error("another hook does not change the name")
	}
	if !strings.HasPrefix(first, "base-") || !strings.HasSuffix(first, ".oci.tar") {
		t.Errorf("the name is %s", first)
	}
}

func TestEveryRecipeIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, recipe := range Recipes {
		contents, err := recipe.files()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		dockerfile := ""
		for _, file := range contents {
			names = append(names, file.name)
			if file.name == "Dockerfile" {
				dockerfile = string(file.content)
			}
		}
		if usesRoot := strings.Contains(dockerfile, "root.tar"); usesRoot != (recipe.mmdebstrap("") != nil) {
			t.Errorf("%s: the Dockerfile and the packages disagree about root.tar", recipe.Name)
		}
		if recipe.Compile != "" && !slices.Contains(names, recipe.Compile) {
			t.Errorf("%s: %s is missing", recipe.Name, recipe.Compile)
		}
		if !strings.Contains(dockerfile, "FROM scratch") {
			t.Errorf("%s: the Dockerfile %q needs an image that nobody has", recipe.Name, dockerfile)
		}
		if seen[recipe.Reference] {
			t.Errorf("%s is built twice", recipe.Reference)
		}
		seen[recipe.Reference] = true
	}
}

func TestAnUnknownImageNamesTheKnownOnes(t *testing.T) {
	_, err := Find("mysql")
	if err == nil || !strings.Contains(err.Error(), "postgres") {
		t.Errorf("got %v", err)
	}
}
