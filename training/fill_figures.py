"""Write the measured figures of the bundled checkpoint between the markers of model_card.md and README.md.

    python training/evaluate.py --model aict-small --dataset synthetic --data_dir POOL POOL_2 \
        --photos training/splits/in_domain.txt --output_dir out/in_domain
    cp out/in_domain/results.json aict_hf/checkpoints/aict-small/evaluation/in_domain.json
    python training/evaluate.py --model aict-small --dataset synthetic --data_dir POOL POOL_2 \
        --photos training/splits/out_of_domain.txt --output_dir out/out_of_domain
    cp out/out_of_domain/results.json aict_hf/checkpoints/aict-small/evaluation/out_of_domain.json
    python training/fill_figures.py
"""

from pathlib import Path

from aict_hf.export.hub import RESULTS
from aict_hf.export.model_card import figures_table, fill_figures, read_results
from aict_hf.files.atomic_write import atomic_file
from aict_hf.pretrained import DEFAULT_CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]

table = figures_table(read_results(Path(DEFAULT_CHECKPOINT) / RESULTS))
for document in (ROOT / "model_card.md", ROOT / "README.md"):
    filled = fill_figures(document.read_text(), table)
    with atomic_file(document) as partial:
        partial.write_text(filled)
    print(f"filled {document.name}")
