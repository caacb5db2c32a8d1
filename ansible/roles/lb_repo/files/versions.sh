#!/bin/sh
# Reads a repository and says what is wrong with it, or nothing.
#   versions.sh VERSION SOURCE
# SOURCE is what would be in /etc/apt/sources.list.d, in base64; VERSION must be there of every package.
set -eu
version=$1
folder=$(mktemp --directory /tmp/lb-repo-XXXXXX)
trap 'rm -r "$folder"' EXIT
# apt reads as a user of its own.
chmod 755 "$folder"
echo "$2" | base64 --decode > "$folder/lb.sources"
if ! said=$(
	apt-get update --quiet --error-on=any --option=Dir::Etc::SourceList="$folder/lb.sources" \
		--option=Dir::Etc::SourceParts=/dev/null --option=Dir::State::Lists="$folder" --option=Dir::Cache="$folder" 2>&1
); then
	echo "the repository cannot be used, apt says $(echo "$said" | sed -n "s|$folder/||g; /^[EW]: /p" | sort -u | paste -sd ' ')"
	exit
fi
/usr/lib/apt/apt-helper cat-file "$folder"/*_Packages* |
	awk '/^Package: / { package = $2 } /^Version: / { print package, $2 }' > "$folder/versions"
for package in lb-server lb-worker lb-client; do
	if ! grep -Fxq "$package $version" "$folder/versions"; then
		echo "the repository has no version $version of $package, but $(sed -n "s/^$package //p" "$folder/versions" | paste -sd ' ')"
		exit
	fi
done
