//! Small dense matrices: products, transposes, and linear systems by Gaussian elimination with pivoting.

use std::fmt;
use std::ops::{Index, IndexMut, Mul};

#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

#[derive(Debug)]
pub enum SolveError {
    NotSquare { rows: usize, columns: usize },
    Singular,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Matrix { rows, columns, values: vec![0.0; rows * columns] }
    }

    pub fn identity(size: usize) -> Self {
        let mut matrix = Matrix::zeros(size, size);
        for i in 0..size {
            matrix[(i, i)] = 1.0;
        }
        matrix
    }

    pub fn transpose(&self) -> Self {
        let mut result = Matrix::zeros(self.columns, self.rows);
        for i in 0..self.rows {
            for j in 0..self.columns {
                result[(j, i)] = self[(i, j)];
            }
        }
        result
    }

    pub fn solve(&self, right: &[f64]) -> Result<Vec<f64>, SolveError> {
        if self.rows != self.columns {
            return Err(SolveError::NotSquare { rows: self.rows, columns: self.columns });
        }
        let n = self.rows;
        let mut a = self.clone();
        let mut b = right.to_vec();
        for k in 0..n {
            let pivot = (k..n)
                .max_by(|&i, &j| a[(i, k)].abs().total_cmp(&a[(j, k)].abs()))
                .filter(|&i| a[(i, k)].abs() > 1e-12)
                .ok_or(SolveError::Singular)?;
            for j in 0..n {
                a.values.swap(k * n + j, pivot * n + j);
            }
            b.swap(k, pivot);
            for i in k + 1..n {
                let factor = a[(i, k)] / a[(k, k)];
                for j in k..n {
                    let value = a[(k, j)];
                    a[(i, j)] -= factor * value;
                }
                b[i] -= factor * b[k];
            }
        }
        for k in (0..n).rev() {
            let sum: f64 = (k + 1..n).map(|j| a[(k, j)] * b[j]).sum();
            b[k] = (b[k] - sum) / a[(k, k)];
        }
        Ok(b)
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = f64;

    fn index(&self, (row, column): (usize, usize)) -> &f64 {
        &self.values[row * self.columns + column]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut f64 {
        &mut self.values[row * self.columns + column]
    }
}

impl Mul for &Matrix {
    type Output = Matrix;

    fn mul(self, other: &Matrix) -> Matrix {
        assert_eq!(self.columns, other.rows, "inner sizes differ");
        let mut result = Matrix::zeros(self.rows, other.columns);
        for i in 0..self.rows {
            for j in 0..other.columns {
                result[(i, j)] = (0..self.columns).map(|k| self[(i, k)] * other[(k, j)]).sum();
            }
        }
        result
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.values.chunks(self.columns) {
            let cells: Vec<String> = row.iter().map(|value| format!("{value:8.3}")).collect();
            writeln!(f, "[{}]", cells.join(", "))?;
        }
        Ok(())
    }
}
