// Writes the manifests that projects publish with their releases out of what their modules hold: a chart of Helm, or a folder
// of kustomize.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if err := render(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(args []string) error {
	switch {
	case len(args) >= 4 && args[0] == "helm":
		return chart(args[1], args[2], args[3], args[4:])
	case len(args) == 2 && args[0] == "kustomize":
		made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), args[1])
		if err != nil {
			return err
		}
		text, err := made.AsYaml()
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	}
	return fmt.Errorf("say helm FOLDER NAME VERSION VALUE… or kustomize FOLDER")
}

// chart renders a chart in a namespace of its own name. Values that it is given are true.
func chart(folder, name, version string, set []string) error {
	loaded, err := loader.Load(folder)
	if err != nil {
		return err
	}
	loaded.Metadata.Version, loaded.Metadata.AppVersion = version, version
	values := map[string]any{}
	for _, path := range set {
		at := values
		keys := strings.Split(path, ".")
		for _, key := range keys[:len(keys)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[keys[len(keys)-1]] = true
	}
	release := chartutil.ReleaseOptions{Name: name, Namespace: name, IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(loaded, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return err
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		return err
	}
	fmt.Printf("apiVersion: v1\nkind: Namespace\nmetadata: { name: %s }\n", name)
	names := []string{}
	for file := range files {
		names = append(names, file)
	}
	slices.Sort(names)
	for _, file := range names {
		if !strings.HasSuffix(file, ".yaml") {
			continue
		}
		split := releaseutil.SplitManifests(files[file])
		objects := slices.Collect(maps.Keys(split))
		sort.Sort(releaseutil.BySplitManifestsOrder(objects))
		for _, object := range objects {
			if text := split[object]; !strings.Contains(text, "helm.sh/hook") {
				fmt.Printf("---\n%s\n", text)
			}
		}
	}
	return nil
}
