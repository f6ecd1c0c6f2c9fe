// Shortest ways through a grid of costs, by Dijkstra's algorithm.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ways {

struct Cell {
    int row = 0;
    int column = 0;

    bool operator==(const Cell &other) const { return row == other.row && column == other.column; }
};

class Grid {
public:
    Grid(int rows, int columns, int cost = 1) : rows_(rows), columns_(columns), costs_(rows * columns, cost)
    {
        if (rows <= 0 || columns <= 0)
            throw std::invalid_argument("a grid needs at least one cell");
    }

    void block(const Cell &cell) { costs_.at(index(cell)) = -1; }
    bool is_open(const Cell &cell) const { return contains(cell) && costs_[index(cell)] >= 0; }

    bool contains(const Cell &cell) const
    {
        return cell.row >= 0 && cell.row < rows_ && cell.column >= 0 && cell.column < columns_;
    }

    std::optional<std::vector<Cell>> shortest(const Cell &from, const Cell &to) const
    {
        constexpr int far = std::numeric_limits<int>::max();
        using Entry = std::pair<int, int>;
        std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
        std::vector<int> distance(costs_.size(), far);
        std::vector<int> came_from(costs_.size(), -1);

        distance[index(from)] = 0;
        open.emplace(0, index(from));
        while (!open.empty()) {
            const auto [so_far, here] = open.top();
            open.pop();
            if (so_far > distance[here])
                continue;
            if (here == index(to))
                return trace(came_from, here);
            for (const Cell &next : neighbours(cell_at(here))) {
                const int length = so_far + costs_[index(next)];
                if (length < distance[index(next)]) {
                    distance[index(next)] = length;
                    came_from[index(next)] = here;
                    open.emplace(length, index(next));
                }
            }
        }
        return std::nullopt;
    }

private:
    int index(const Cell &cell) const { return cell.row * columns_ + cell.column; }
    Cell cell_at(int index) const { return {index / columns_, index % columns_}; }

    std::vector<Cell> neighbours(const Cell &cell) const
    {
        std::vector<Cell> found;
        for (const auto &[down, right] : {std::pair{0, 1}, {1, 0}, {0, -1}, {-1, 0}}) {
            const Cell next{cell.row + down, cell.column + right};
            if (is_open(next))
                found.push_back(next);
        }
        return found;
    }

    std::vector<Cell> trace(const std::vector<int> &came_from, int here) const
    {
        std::vector<Cell> way;
        for (; here >= 0; here = came_from[here])
            way.push_back(cell_at(here));
        std::reverse(way.begin(), way.end());
        return way;
    }

    int rows_;
    int columns_;
    std::vector<int> costs_;
};

}  // namespace ways
