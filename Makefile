# `make demo` and `make test` are all a newcomer needs; each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint unit docs notebooks picture gallery performance bench results classes methods \
    causal causal-choice clean

# The stamps are newer than the files they came from, so that a second call installs nothing.
$(VENV)/run.stamp: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

# Tests of pages need Chromium; where it cannot be installed they are skipped, with the reason.
$(VENV)/browser.stamp:
	@if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    timeout 300 apt-get update -qq && timeout 600 apt-get install -qq -y chromium; \
	fi >/dev/null 2>&1 || true
	@if command -v chromium >/dev/null; then touch $@; \
	    else echo "no Chromium here: the tests of pages in a browser are skipped"; fi

demo: $(VENV)/run.stamp
	$(BIN)/forensift demo --out demo-out

test: lint unit

lint: $(VENV)/test.stamp
	$(BIN)/ruff check src tests benchmarks paper notebooks docs/*.py
	$(BIN)/ruff format --check src tests benchmarks paper notebooks docs/*.py
	$(BIN)/mypy src

unit: $(VENV)/test.stamp $(VENV)/browser.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The documentation as a site that needs no network: build/docs/index.html.
docs: $(VENV)/test.stamp
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs

# The notebooks' outputs, and the README's picture, which is of the first of them: six minutes.
notebooks: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python docs/run_notebooks.py

picture: $(VENV)/run.stamp
	OMP_NUM_THREADS=1 $(BIN)/python docs/first_look.py docs/first-look.png

# The gallery of figures, from the demo that was made last.
gallery: $(VENV)/run.stamp
	test -f demo-out/index.html || $(BIN)/forensift demo --out demo-out
	$(BIN)/python docs/gallery.py demo-out docs

# What every verb costs in time and memory; what runs/verbs holds already is not measured again.
performance: $(VENV)/run.stamp
	$(BIN)/python benchmarks/verbs.py --page docs/performance.md

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/lrp.py
	$(BIN)/python benchmarks/dropout.py

# A demo, whose tables become docs/results.md, with the studies of several classes below.
results: $(VENV)/run.stamp
	$(BIN)/forensift demo --out runs/results
	cp runs/results/results.md docs/results.md
	for page in deepfeaturex attribution; do \
	    test ! -f docs/$$page.md || { echo; sed 's/^#/##/' docs/$$page.md; } >> docs/results.md; \
	done

# What was really removed? On crops of the test photographs that nothing was chosen on: docs/causal.md.
causal: $(VENV)/run.stamp
	$(BIN)/forensift causal --seed 11 --resume --out runs/causal
	cp runs/causal/causal.md docs/causal.md
	$(BIN)/python -c "from PIL import Image; one = Image.open('runs/causal/causal.png').convert('RGB'); \
	    one.thumbnail((1300, 1300)); one.quantize(48).save('docs/causal.png', optimize=True)"

# The rankings by pursuit that it uses, and what was chosen on validation photographs.
causal-choice: $(VENV)/run.stamp
	$(BIN)/forensift causal --choose --seed 1 --out runs/causal-choice
	for one in resnet50:blur-jpg-0.5 efficientnet-b0:blur-jpg-0.5 npr:npr; do \
	    for file in progan-like-pursuit.csv progan-like-means.parquet choice.csv; do \
	        cp runs/causal-choice/$${one%:*}/$$file \
	            fmap_relevances/$${one%:*}/progan-like_$${one#*:}/; \
	    done; \
	done

# Which explanation method to trust, of two detectors and the methods of one pass: two minutes.
# `--method all` and `all` detectors take far longer; --resume goes on.
methods: $(VENV)/run.stamp
	$(BIN)/forensift forge --photos test --families progan-like,dcgan-like --per-family 30 \
	    --out runs/methods/images
	$(BIN)/forensift faithfulness npr,dna-det --board --data runs/methods/images --n 6 \
	    --method lrp,gradcam,guided-gradcam,guided-backprop,gradient,input-x-gradient,deeplift,gradcam++,xgradcam,hirescam,layercam,eigencam,fullgrad \
	    --resume --out runs/methods/board
	cp runs/methods/board/methods.md docs/methods.md

# What made an image? Needs the trainings of docs/training.md §6 and §7 in runs/.
classes: $(VENV)/run.stamp
	$(BIN)/forensift deepfeaturex test --data runs/results/images/test \
	    --weights runs/deepfeaturex/deepfeaturex.safetensors --base-models runs/deepfeaturex \
	    --plain runs/deepfeaturex/plain/deepfeaturex-plain.safetensors --out runs/results/deepfeaturex
	sed "/^!\[/d" runs/results/deepfeaturex/results.md > docs/deepfeaturex.md
	$(BIN)/forensift attribute evaluate --data runs/attribution \
	    --detector "DNA-Det:=dna-det=runs/dna-det/dna-det.safetensors" \
	    --detector "plain CNN, crops:=dna-det=runs/dna-plain/dna-det.safetensors" \
	    --detector "plain CNN, whole:=dna-det=runs/dna-whole/dna-det.safetensors"
	$(BIN)/forensift attribute fingerprints --data runs/attribution
	$(BIN)/forensift attribute page --data runs/attribution --out docs/attribution.md
	sed -i "/^!\[/d" docs/attribution.md

clean:
	rm -rf $(VENV) build demo-out runs .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
